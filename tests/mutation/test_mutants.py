"""The list of mutants matches the code; ``make mutants`` has the tests notice each of them."""

import pytest

from tests.mutation.mutants import CORE, SERVICE, Mutant
from tests.mutation.run import source_of


@pytest.mark.parametrize("mutant", [*CORE, *SERVICE], ids=lambda mutant: f"{mutant.module}: {mutant.guard}")
def test_what_a_mutant_takes_out_is_there(mutant: Mutant) -> None:
    source = source_of(mutant)
    assert source.count(mutant.old) == 1
    assert mutant.old != mutant.new
    compile(source.replace(mutant.old, mutant.new), mutant.module, "exec")
