"""What the two reports published, together: STRIDE rows. Free of torch."""

from __future__ import annotations

from secure_ai.runs.cases.report_1 import threats as threats_1
from secure_ai.runs.cases.report_2 import threats as threats_2
from secure_ai.threats.register import Row

THREATS: tuple[Row, ...] = (*threats_1.ROWS, *threats_2.ROWS)
