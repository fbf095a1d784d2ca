"""What the two reports published, together: figures and claims, and STRIDE rows. Free of torch."""

from __future__ import annotations

from secure_ai.runs.cases.report_1 import figures as figures_1
from secure_ai.runs.cases.report_1 import threats as threats_1
from secure_ai.runs.cases.report_2 import figures as figures_2
from secure_ai.runs.cases.report_2 import threats as threats_2
from secure_ai.runs.reproduction.judge import Published
from secure_ai.threats.register import Row

FIGURES: tuple[Published, ...] = (
    *figures_1.FIGURES,
    *figures_1.CLAIMS,
    *figures_2.FIGURES,
    *figures_2.CLAIMS,
)
THREATS: tuple[Row, ...] = (*threats_1.ROWS, *threats_2.ROWS)
