from __future__ import annotations

import pytest

from secure_ai.data.dataset import Dataset
from secure_ai.runs.cases.report_1.settings import Report1Section
from secure_ai.runs.cases.report_2.settings import Report2Section
from secure_ai.runs.recipe import deviations as module
from secure_ai.runs.recipe.config import Change
from secure_ai.runs.recipe.deviations import NOT_PROTOCOL, deviations
from secure_ai.runs.recipe.origins import Origin
from secure_ai.runs.recipe.recipe import load_recipe

KEYS = [f"report_1.{key}" for key in Report1Section.model_fields]
KEYS += [f"report_2.{key}" for key in Report2Section.model_fields if key not in NOT_PROTOCOL]


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch, digits: Dataset, digits_test: Dataset) -> dict[str, Dataset]:
    """Stand-ins for the whole of MNIST."""
    monkeypatch.setattr(module, "MNIST", {"train": digits.digest, "test": digits_test.digest})
    return {"train": digits, "test": digits_test}


@pytest.mark.parametrize("name", ["standard", "report-1", "report-2"])
def test_the_reports_recipes_do_not_deviate(name: str, mnist: dict[str, Dataset]) -> None:
    assert deviations(load_recipe(name), mnist) == []
    assert deviations(load_recipe(name, ["seed=7"]), mnist) == []


def test_quick_deviates(mnist: dict[str, Dataset]) -> None:
    assert deviations(load_recipe("quick"), mnist)


@pytest.mark.parametrize("key", KEYS)
def test_every_protocol_key_changed_alone_is_a_deviation(key: str, mnist: dict[str, Dataset]) -> None:
    section, name = key.split(".")
    value = load_recipe("standard").model_dump()[section][name]
    changed = "center" if isinstance(value, str) else value + 1 if isinstance(value, int) else value / 2
    found = deviations(load_recipe("standard", [Change(key, changed, "test", Origin.FLAG)]), mnist)
    assert found == [f"{key} is {changed}, not {value}"]


def test_other_data_is_a_deviation(mnist: dict[str, Dataset], digits: Dataset) -> None:
    found = deviations(load_recipe("report-1"), mnist | {"test": digits})
    assert len(found) == 1
    assert f"{digits.name} ({len(digits)} images)" in found[0]
