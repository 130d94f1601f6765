"""The fake sampling service judges requests as the service's own model, in botocore, describes them."""

from __future__ import annotations

import botocore.session
import pytest

from spanwell.testing import RULES, TARGETS, wire


@pytest.fixture(scope="module")
def model():
    return botocore.session.get_session().get_service_model("xray")


def test_the_paths(model):
    assert model.operation_model("GetSamplingRules").http["requestUri"] == f"/{RULES}"
    assert model.operation_model("GetSamplingTargets").http["requestUri"] == f"/{TARGETS}"


@pytest.mark.parametrize(
    ("member", "fields"),
    [("SamplingStatisticsDocuments", wire.STATISTICS), ("SamplingBoostStatisticsDocuments", wire.BOOSTS)],
)
def test_the_documents(model, member, fields):
    members = model.operation_model("GetSamplingTargets").input_shape.members
    if member not in members:
        pytest.skip("this botocore is older than boosts")
    shape = members[member]
    assert shape.metadata["max"] == 25
    assert set(shape.member.members) == set(fields)
    assert set(fields) - set(shape.member.required_members) <= {"BorrowCount"}
    for name, part in shape.member.members.items():
        if part.type_name == "string":
            low, high = part.metadata.get("min", 0), part.metadata["max"]
            assert fields[name]("a" * high)
            assert not fields[name]("a" * (high + 1))
            assert fields[name]("a" * low)
            assert low == 0 or not fields[name]("a" * (low - 1))
        elif part.type_name == "integer":
            assert fields[name](0)
            assert not fields[name](-1)
