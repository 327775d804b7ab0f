"""Random deeds on both sides, with faults between, judged by an oracle that does not know the engine.

``make test`` runs 200 examples of 40 steps, ``make soak`` 5,000 of other seeds. A failure tells the seed of its part,
its steps, and what did not hold; with MODEL_SEED set to that seed ``make test`` runs that part alone.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from immich_dbsync.demo.tables import VERSIONS
from tests.databases import Servers
from tests.model.machine import Machine
from tests.model.world import worlds

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "200"))
IN_A_PART = 25  # so a seed that failed is soon run again
STEPS = 40
FIRST = int(os.environ.get("MODEL_FIRST", "1"))
SEEDS = [int(os.environ["MODEL_SEED"])] if "MODEL_SEED" in os.environ else range(FIRST, FIRST + EXAMPLES // IN_A_PART)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", SEEDS)
def test_whatever_is_done_nothing_is_lost_and_both_sides_agree(servers: Servers, part: int) -> None:
    version = VERSIONS[part % len(VERSIONS)]
    with servers.database(version) as database, worlds(servers.cluster().url(database), version) as (loop, world):

        class Part(Machine):
            pass

        Part.loop, Part.world = loop, world
        try:
            run_state_machine_as_test(
                seed(part)(Part),
                settings=settings(
                    max_examples=IN_A_PART,
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate, *([Phase.shrink] if "MODEL_SHRINK" in os.environ else [])],
                    suppress_health_check=list(HealthCheck),
                    verbosity=Verbosity.normal,
                    print_blob=True,
                ),
            )
        except Exception as error:
            error.add_note(f"MODEL_SEED={part} runs this part again.")
            raise
