"""Failures that come again and again."""

import logging

import pytest

from retrieval.service.collections.complaints import MAX_DIFFERENT, Complaints

LOG = logging.getLogger("retrieval.tests.complaints")


def test_each_failure_is_logged_once_until_a_success(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(LOG)
    for what in ("a fails", "a fails", "a fails otherwise", "a fails"):
        complaints.add("a", what)
    complaints.add("b", "a fails")
    assert caplog.messages == [
        *("a fails; trying again", "a fails otherwise; trying again", "a fails; trying again"),
    ]
    assert complaints.settle("a")
    assert not complaints.settle("a")
    assert not complaints.settle("never failed")
    complaints.add("a", "a fails", ValueError("cause"))
    assert caplog.messages[-1] == "a fails; trying again"
    assert caplog.records[-1].exc_info is not None


def test_a_message_that_differs_every_time_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    complaints = Complaints(LOG)
    for number in range(3 * MAX_DIFFERENT):
        complaints.add("a", f"failure {number}")
    assert len(caplog.messages) == MAX_DIFFERENT
