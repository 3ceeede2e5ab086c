"""Decisions about one request. Pure: documents, bytes and ``now`` come in, a refusal or nothing comes out."""
