"""The training loop: a method makes a batch's loss, schedules are functions."""
