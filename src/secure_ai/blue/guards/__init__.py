"""Guards: functions that look at an input before the model's answer is given out."""
