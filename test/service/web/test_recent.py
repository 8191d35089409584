"""What is encoded once for many: the same bytes as by itself, and made anew in time."""

import threading
import time

from service.protocol import canonical
from service.web.operations import Encoded, encode
from service.web.recent import Recent


def test_a_value_that_was_encoded_before_stands_in_an_object_as_if_it_had_not():
    inner = {"z": [1.5, None], "a": 'ä"'}
    assert encode({"b": 1, "result": encode(inner), "a": "x"}).content.decode() == canonical(
        {"b": 1, "result": inner, "a": "x"}
    )
    assert encode([inner]).content.decode() == canonical([inner])
    assert encode({}).content == b"{}"


def test_many_who_ask_at_once_have_one_text():
    recent, made = Recent(), []

    def make():
        made.append(time.sleep(0.05))
        return Encoded(b"1")

    threads = [threading.Thread(target=recent.get, args=("a", 0, make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_text_is_made_anew_in_time_and_for_another_key():
    recent, made = Recent(), []

    def asked(key, now):
        recent.get(key, now, lambda: made.append((key, now)) or Encoded(b"1"))

    for key, now in (("a", 100_000), ("a", 129_999), ("b", 129_999), ("a", 130_000), ("a", 1_000)):
        asked(key, now)
    assert made == [("a", 100_000), ("b", 129_999), ("a", 130_000), ("a", 1_000)]


def test_few_texts_are_kept_and_none_that_is_large():
    recent, made = Recent(), []

    def asked(key, size=1):
        return recent.get(key, 0, lambda: made.append(key) or Encoded(bytes(size)))

    for key in (*range(9), 8, 0):
        asked(key)
    assert made == [*range(9), 0]
    for _ in range(2):
        assert len(asked("large", 2**20 + 1).content) == 2**20 + 1
    assert made[-2:] == ["large", "large"]
