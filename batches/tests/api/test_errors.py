"""How a refusal of the manager becomes an answer, where no call of the API can bring it about at will."""

import pytest

from batches.batch_manager import BatchManager
from batches.queue.refusals import Code, Refusal

pytestmark = pytest.mark.django_db


def test_a_batch_that_is_deleted_as_its_call_is_refused_is_not_found(client, make_batch, monkeypatch):
    def refuse_and_vanish(manager, batch_id):
        assert manager.delete_batch(batch_id)
        return Refusal(Code.ANOTHER_RUNNING, "Another batch is running.")

    monkeypatch.setattr(BatchManager, "start_batch", refuse_and_vanish)
    answer = client.post(f"/api/batches/{make_batch().pk}/start/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.json().keys() == {"code", "detail"}


def test_a_value_that_only_the_manager_refuses_is_a_bad_request(client, monkeypatch):
    refusal = Refusal(Code.BAD_VALUE, "This name is taken.")
    monkeypatch.setattr(BatchManager, "create_batch", lambda manager, **fields: refusal)
    answer = client.post("/api/batches/", {"name": "news", "profiles": ["https://example.org/"]})
    assert answer.status_code == 400
    assert answer.json() == {"code": "bad_value", "detail": "This name is taken."}
