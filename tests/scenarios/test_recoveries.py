"""Recovery chains: crash recovery without distributed consensus (2018 §2.4, 2017 §4.3)."""

from __future__ import annotations

import pytest

from tests.volume_pump import VolumePump


@pytest.mark.parametrize("seed", range(5))
def test_recoveries_that_crash_and_overtake_each_other_lose_nothing(seed: int) -> None:
    """2018 §2.4, 2017 §4.3: any read quorum yields a consistent point, at or above every commit."""
    volume = VolumePump(seed)
    for at in range(1200):
        volume.anything()
        if at % 100 == 99:
            volume.check_every_read_quorum(2)
    writer = volume.heal()
    volume.check_converged(writer)
    assert volume.opened >= 1 and volume.acknowledged > 0, "a run that proves nothing"
