#!/usr/bin/env python3
"""Reads the wire fixtures beside this file as README.md describes them, with nothing but the
standard library, and prints a message that Python wrote, for the other side to read."""

import base64
import json
import pathlib
import sys
import uuid

KNOWN_CLASSES = {"permanent", "attempts_exhausted", "too_old", "undecodable"}
LONGEST = 1024


def is_xml_legal(text):
    return all(
        c in "\t\n\r"
        or " " <= c <= "\ud7ff"
        or "\ue000" <= c <= "\ufffd"
        or "\U00010000" <= c
        for c in text
    )


def read(body, attributes):
    """Returns key, body, the sender's own attributes, the failure record and what it waits for."""
    own = {name: value for name, value in attributes.items() if name != "towpath"}
    text = attributes["towpath"]
    assert len(text.encode()) <= LONGEST, "the reserved attribute is too long"
    assert is_xml_legal(text), "the reserved attribute has an illegal character"
    reserved = json.loads(text)
    encoding = reserved.get("body", "raw")
    assert encoding in ("raw", "base64"), encoding
    if encoding == "base64":
        body = base64.b64decode(body, validate=True)
    key = uuid.UUID(reserved["key"])
    return key, body, own, reserved.get("failure"), reserved.get("delayed")


def check(path):
    fixture = json.loads(path.read_text(encoding="utf-8"))
    expected = fixture["message"]
    expected_body = base64.b64decode(expected["body_base64"], validate=True)
    sqs, pubsub = fixture["sqs"], fixture["pubsub"]
    assert is_xml_legal(sqs["body"]), "SQS does not carry this body"
    for name, body, attributes in [
        ("sqs", sqs["body"].encode(), sqs["attributes"]),
        ("pubsub", base64.b64decode(pubsub["body"], validate=True), pubsub["attributes"]),
    ]:
        key, body, own, failure, delayed = read(body, attributes)
        assert key == uuid.UUID(expected["key"]), name
        assert body == expected_body, name
        assert own == expected["attributes"], name
        assert failure == expected["failure"], name
        assert delayed == (expected.get("delayed") if name == "pubsub" else None), name
        if delayed is not None:
            assert delayed["queue"].startswith("projects/")
            assert delayed["not_before_ms"] > delayed["first_sent_ms"] > 0
            assert delayed["attempts"] == 3
        if failure is None:
            continue
        assert isinstance(failure["reason"], str)
        assert isinstance(failure["class"], str)
        assert failure["queue"] == "orders"
        assert failure["attempts"] == 5
        assert failure["failed_ms"] > failure["first_sent_ms"] > 0
        assert failure.get("redrives", 0) == (2 if path.stem == "redriven" else 0)
        is_known = failure["class"] in KNOWN_CLASSES
        assert is_known == (path.stem != "other-class"), failure["class"]
        assert failure["reason"].endswith("\u2026") == (path.stem == "long-reason")


def write():
    """A dead letter as a program in another language writes it for SQS."""
    reserved = {
        "key": "8a0c2c5e-6c7b-4d43-8a63-0d2b8f0f6a57",
        "body": "base64",
        "failure": {
            "reason": "h\u00e4ngt",
            "class": "quota",
            "attempts": 3,
            "failed_ms": 1767225912345,
            "queue": "orders",
            "a_field_of_a_later_version": True,
        },
    }
    return {
        "body": base64.b64encode(b"\x00from python").decode(),
        "towpath": json.dumps(reserved, ensure_ascii=False),
    }


def main():
    folder = pathlib.Path(__file__).resolve().parent
    paths = sorted(folder.glob("*.json"))
    for path in paths:
        try:
            check(path)
        except (AssertionError, KeyError, ValueError) as error:
            sys.exit(f"{path.name}: {error!r}")
    sys.stdout.reconfigure(encoding="utf-8")
    print(json.dumps({"checked": len(paths), "message": write()}, ensure_ascii=False))


if __name__ == "__main__":
    main()
