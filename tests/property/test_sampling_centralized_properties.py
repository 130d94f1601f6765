"""Whatever the service answers and whenever, decisions go on and no request is lost or counted twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spanwell.sampling.centralized import Centralized, StatisticsReport
from spanwell.sampling.polling import RULES, TARGETS, Schedule
from spanwell.sampling.rules import Boost, Rule

NAMES = ["a", "b", "c"]
NOTHING: dict[str, Any] = {}

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
number = json | st.floats(0, 1) | st.integers(0, 10)
target = st.fixed_dictionaries(
    {"RuleName": json | st.sampled_from(NAMES), "FixedRate": number},
    optional={
        "ReservoirQuota": number,
        "ReservoirQuotaTTL": number,
        "Interval": number,
        "SamplingBoost": json | st.fixed_dictionaries({"BoostRate": number, "BoostRateTTL": number}),
    },
)
unprocessed = st.fixed_dictionaries({"RuleName": json, "ErrorCode": json | st.sampled_from(["400", "500"])})
answer = st.fixed_dictionaries(
    {"SamplingTargetDocuments": json | st.lists(target | json, max_size=3)},
    optional={
        "LastRuleModification": number,
        "UnprocessedStatistics": json | st.lists(unprocessed | json, max_size=3),
    },
)


@given(answer, st.floats(0, 1e10), st.floats(0, 1e10))
def test_no_answer_breaks_the_decisions(response: dict[str, Any], now: float, wall: float) -> None:
    central, said = Centralized(lambda: NOTHING), list[str]()
    central.apply_rules([Rule(name, boost=Boost(1.0, 1)) for name in NAMES], 0.0)
    try:
        heard = central.apply_targets(StatisticsReport([], [], []), response, said.append, now, wall)
    except ValueError:
        assert not isinstance(response["SamplingTargetDocuments"], list)
    else:
        assert heard.interval is None or heard.interval >= 0
    assert not any("\n" in line for line in said)
    for state in central.table.states:
        for later in (0.0, now, now + 5000):
            assert state.pick(1 << 55, later).reason in ("", "reservoir", "borrowed", "rate", "boost")


@given(
    st.lists(st.tuples(st.booleans(), st.none() | st.floats(0, 1e6), st.booleans()), max_size=50),
    st.floats(10, 1800),
    st.floats(0, 1, exclude_max=True),
)
def test_something_is_always_due_soon_and_nothing_at_once(
    turns: list[tuple[bool, float | None, bool]], interval: float, chance: float
) -> None:
    now = 1000.0
    schedule = Schedule(interval, lambda: chance, now)
    asked: Counter[str] = Counter()
    for good, told, hurried in turns:
        wait = schedule.wait(now)
        assert wait <= max(interval * (1 + 1 / 60), 300.1)
        now += wait + 1e-6
        what = schedule.due(now)
        asked[what] += 1
        if hurried:
            schedule.hurry(now)
        if good:
            schedule.succeeded(what, now, told if what == TARGETS else None)
        else:
            schedule.failed(what, now)
    assert asked.keys() <= {RULES, TARGETS}
    hurries = sum(hurried for _, _, hurried in turns)
    assert sum(asked.values()) <= (now - 1000) / 0.5 + 2 + hurries


class Statistics(RuleBasedStateMachine):
    """Decisions, rules that come and go, reports that arrive or do not."""

    def __init__(self) -> None:
        super().__init__()
        self.central = Centralized(lambda: NOTHING)
        self.made: Counter[str] = Counter()
        self.arrived: Counter[str] = Counter()
        self.under_way: list[StatisticsReport] = []
        self.held = [self.central.table]
        self.now = 0.0

    @rule(names=st.lists(st.sampled_from(NAMES), unique=True), rate=st.sampled_from([0.0, 0.5, 1.0]))
    def rules_come(self, names: list[str], rate: float) -> None:
        self.central.apply_rules([Rule(name, fixed_rate=rate) for name in names], self.now)

    @rule(data=st.data(), chance=st.integers(0, (1 << 56) - 1))
    def a_root(self, data: st.DataObject, chance: int) -> None:
        if self.central.table.states:
            state = data.draw(st.sampled_from(self.central.table.states))
            state.pick(chance, self.now)
            self.made[state.name] += 1

    @rule(seconds=st.floats(-5, 50))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(fate=st.sampled_from(["arrives", "fails", "unprocessed"]))
    def a_report(self, fate: str) -> None:
        for report in self.central.take_reports(1.0):
            if fate == "fails":
                self.central.give_back(report)
                continue
            refused = [{"RuleName": each["RuleName"], "ErrorCode": "500"} for each in report.statistics]
            response = {"SamplingTargetDocuments": [], "UnprocessedStatistics": refused if fate != "arrives" else []}
            self.central.apply_targets(report, response, lambda _line: None, self.now, 1.0)
            if fate == "arrives":
                self.arrived.update({each["RuleName"]: each["RequestCount"] for each in report.statistics})

    @invariant()
    def counts_are_plausible(self) -> None:
        assert all(self.arrived[name] <= self.made[name] for name in NAMES)

    def teardown(self) -> None:
        for report in self.central.take_reports(1.0):
            self.arrived.update({each["RuleName"]: each["RequestCount"] for each in report.statistics})
        assert +self.arrived == +self.made


TestStatistics = Statistics.TestCase
