"""What candidates may cost: parameters, and bytes and bit operations at the bit widths that rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcore.cost import sums_of
from qcore.errors import InvalidInput

if TYPE_CHECKING:
    from qcore.architecture import Architecture
    from qcore.bit_widths import BitWidths
    from qcore.recipe import QuantizerSettings
    from qcore.tasks import Task

MOST_PARAMETERS = 100_000_000
MOST_MODEL_BYTES = 4 * MOST_PARAMETERS
MOST_BIT_OPERATIONS = 10**15


@dataclass(frozen=True)
class Budgets:
    """The most that a candidate may cost; None where it may cost anything.

    Raises:
        InvalidInput: without any limit, or with one out of range.
    """

    parameters: int | None
    """Trainable ones of the float network."""
    model_bytes: int | None
    bit_operations: int | None
    """For one input."""
    bit_widths: BitWidths
    """What bytes and bit operations are counted at: those that rank."""
    quantizers: QuantizerSettings

    def __post_init__(self) -> None:
        check_budgets(self.parameters, self.model_bytes, self.bit_operations)

    def exceeded_by(self, architecture: Architecture, task: Task) -> tuple[Excess, ...]:
        """The budgets that an architecture is too large for; none if it fits.

        Raises:
            InvalidInput: when the architecture does not suit the task.
        """
        bits = self.bit_widths
        sums = sums_of(architecture, task, (bits,), self.quantizers)
        model_bytes, operations = sums.model_bytes[str(bits)], sums.bit_operations[str(bits)]
        costs = (
            ("parameter_budget", self.parameters, sums.parameters, "parameters"),
            ("model_bytes_budget", self.model_bytes, model_bytes, f"bytes at {bits}"),
            ("bit_operations_budget", self.bit_operations, operations, f"bit operations at {bits}"),
        )
        return tuple(
            Excess(field, budget, needed, unit)
            for field, budget, needed, unit in costs
            if budget is not None and needed > budget
        )


@dataclass(frozen=True)
class Excess:
    """A budget that an architecture is too large for."""

    field: str
    """The request's."""
    budget: int
    needed: int
    unit: str


def check_budgets(parameters: int | None, model_bytes: int | None, bit_operations: int | None) -> None:
    """Raises InvalidInput when no budget is given, or one is out of range."""
    ranges = {
        "parameter_budget": (parameters, MOST_PARAMETERS),
        "model_bytes_budget": (model_bytes, MOST_MODEL_BYTES),
        "bit_operations_budget": (bit_operations, MOST_BIT_OPERATIONS),
    }
    for field, (budget, most) in ranges.items():
        if budget is not None and not 1 <= budget <= most:
            raise InvalidInput(field, budget, "is out of range", f"use 1 to {most}")
    if all(budget is None for budget, _ in ranges.values()):
        field, *others = ranges
        problem = f"is missing, and so are {' and '.join(others)}"
        raise InvalidInput(field, None, problem, "give at least one of them, e.g. a parameter_budget of 20000")


def budgets_in_words(
    parameters: int | None, model_bytes: int | None, bit_operations: int | None, bit_widths: str
) -> str:
    """Budgets as people read them.

    >>> budgets_in_words(20_000, None, None, "W2A2"), budgets_in_words(None, 1000, 64_000, "W4A4")
    ('20,000 parameters', '1,000 bytes and 64,000 bit operations at W4A4')
    >>> budgets_in_words(20_000, 16_896, 3_000_000, "W2A2")
    '20,000 parameters, 16.5 KiB and 3 million bit operations at W2A2'
    """
    parts = []
    if parameters is not None:
        parts.append(f"{parameters:,} parameters")
    if model_bytes is not None:
        parts.append(f"{model_bytes:,} bytes" if model_bytes < 1024 else f"{_short(model_bytes / 1024)} KiB")
    if bit_operations is not None:
        count = f"{bit_operations:,}" if bit_operations < 10**6 else f"{_short(bit_operations / 10**6)} million"
        parts.append(f"{count} bit operations")
    if (model_bytes, bit_operations) != (None, None):
        parts[-1] += f" at {bit_widths}"
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def _short(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")
