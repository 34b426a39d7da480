"""The local models are as often right as the docs say."""

import pytest

from cfai import WorkersAI
from cfai.local import Server

from .quality import documented
from .text_quality import MEASURES, Measure, measure

ALLOWANCE = 0.15
"""How much less can be right on another machine: its rounding errors can change a text."""


@pytest.mark.filterwarnings("ignore::cfai.errors.ModelRetiredWarning")  # those for summaries
@pytest.mark.parametrize("item", MEASURES, ids=lambda item: item.task)
async def test_the_answers_are_as_good_as_the_docs_say(item: Measure) -> None:
    right, count = documented(item.task)
    assert count == len(item.cases) >= 20
    async with Server() as server, WorkersAI(**server.credentials) as ai:
        measured, tried = await measure(ai, item, item.in_suite)
    print(f"{item.task}: {measured} of {tried}")
    if tried == count:
        assert measured / tried >= right / count - ALLOWANCE
    else:
        # A part can be luckier or unluckier than the rest.
        assert measured >= tried * (right / count) / 2
