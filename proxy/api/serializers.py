from __future__ import annotations

from dataclasses import fields
from typing import Any

from rest_framework import serializers

from proxy.books import BootBooks, Totals, figure


class TotalsSerializer(serializers.Serializer[Any]):
    """Calls on their road: those that must have a row, and where they are."""

    generated = serializers.IntegerField(help_text="Calls that must have a row.")
    unrecorded = serializers.IntegerField(help_text="Calls whose record the spool did not take.")
    in_flight = serializers.IntegerField(help_text="Calls under way.")
    spooled = serializers.IntegerField(help_text="Records written on the node.")
    cut_off = serializers.IntegerField(help_text="Calls whose process was killed under way; they have a row.")
    waiting = serializers.IntegerField(help_text="Records on their way from the node to the database.")
    quarantined = serializers.IntegerField(help_text="Records that the database refused; set aside on the node.")
    set_aside_bytes = serializers.IntegerField(help_text="Bytes of the spool that could not be read.")
    acknowledged = serializers.IntegerField(help_text="Records that the node knows to be stored.")
    stored = serializers.IntegerField(help_text="Calls in the database, by the ledger.")
    rolled_up = serializers.IntegerField(help_text="Of these, how many the counts of the dashboards took.")
    to_roll_up = serializers.IntegerField(help_text="Of these, how many the counts have still to take.")
    lost = serializers.IntegerField(help_text="Calls without a row that wait nowhere; 0 when nothing is lost.")
    given_up = serializers.IntegerField(help_text="Of the lost, how many an operator wrote off.")
    uncounted = serializers.IntegerField(help_text="Rows of calls whose process was killed before it had counted them.")


class BooksSerializer(TotalsSerializer):
    """One node's calls since it started."""

    def to_representation(self, instance: BootBooks) -> dict[str, Any]:
        return {field.name: figure(instance, field.name) for field in fields(Totals)}


class BootSerializer(serializers.Serializer[Any]):
    """The books of a node from one start to the next."""

    node = serializers.CharField()
    boot = serializers.IntegerField()
    started_at = serializers.DateTimeField()
    state = serializers.ChoiceField(
        ["running", "open", "closed", "given_up"],
        help_text="open: it ended, and may have left records in its spool. closed: nothing of it waits any more. "
        "given_up: nothing of it is expected any more; what it owed is lost.",
    )
    is_silent = serializers.BooleanField(
        help_text="It is not over, and nobody speaks of it: its node is away, or has lost its spool."
    )
    books = BooksSerializer(source="*")


class ReconciliationSerializer(serializers.Serializer[Any]):
    totals = TotalsSerializer()
    counted = serializers.IntegerField(help_text="Calls in the counts that are kept for ever; equals rolled_up.")
    boots = BootSerializer(many=True)


class ChangesQuerySerializer(serializers.Serializer[Any]):
    before = serializers.IntegerField(
        required=False, min_value=1, max_value=2**63 - 1, help_text="Only changes before this sequence number."
    )


class ChangeSerializer(serializers.Serializer[Any]):
    """A change told to gateways, and how far it has come."""

    sequence = serializers.IntegerField()
    kind = serializers.CharField()
    key = serializers.CharField(help_text="Which document of its kind.")
    is_removal = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    live_nodes = serializers.IntegerField(help_text="Connected nodes that enforce it.")
    connected_nodes = serializers.IntegerField()
    rejecting_nodes = serializers.IntegerField(help_text="Connected nodes that do not understand it.")
    reason = serializers.CharField(help_text="Why one of them does not understand it; empty if all do.")
    live_after_ms = serializers.IntegerField(
        allow_null=True,
        help_text="From its commit to the slowest of these nodes; null if not known any more.",
    )


class ReceiptSerializer(serializers.Serializer[Any]):
    """How far the last change of a thing has come."""

    live_nodes = serializers.IntegerField(source="live", help_text="Connected nodes that enforce it.")
    connected_nodes = serializers.IntegerField(source="total")
    live_after_ms = serializers.IntegerField(
        source="ms", allow_null=True, help_text="From its commit to the slowest of these nodes; null if not known."
    )
    rejecting_nodes = serializers.IntegerField(
        source="rejected",
        help_text="Connected nodes that do not understand it: what they knew before is in force. They want an upgrade.",
    )
    reason = serializers.CharField(help_text="Why one of them does not understand it; empty if all do.")
    is_complete = serializers.BooleanField(help_text="Whether every connected node enforces it, and there is one.")


class NodeSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(source="node.name")
    is_connected = serializers.BooleanField(help_text="Whether it was heard of in the last ten seconds.")
    software_version = serializers.CharField(source="node.software_version")
    workers = serializers.IntegerField(source="node.workers")
    started_at = serializers.DateTimeField(source="node.started_at")
    heartbeat_at = serializers.DateTimeField(source="node.heartbeat_at")
    applied_sequence = serializers.IntegerField(source="node.applied_sequence")
    lag = serializers.IntegerField(help_text="Changes it has not applied yet.")
    rejected = serializers.IntegerField(
        help_text="Documents that it does not understand; the last good ones are in force there. It wants an upgrade."
    )
    limits = serializers.ChoiceField(
        ["host", "shared", "unavailable"],
        help_text="Who counts calls against limits: this host alone, or all hosts. unavailable: the hosts cannot ask "
        "each other, and each plan says whether its calls pass meanwhile.",
    )
    ungranted = serializers.IntegerField(
        help_text="Calls since it started that passed a limit of several hosts without a grant."
    )
    books = BooksSerializer()
    outstanding = serializers.IntegerField(
        help_text="Calls of it and of its earlier boots that have no row yet: lost if it never comes back."
    )


class RemovalSerializer(serializers.Serializer[Any]):
    """What went with a gateway node."""

    name = serializers.CharField()
    given_up = serializers.IntegerField(help_text="Boots of it whose books were open.")
    lost = serializers.IntegerField(help_text="Calls of these that have no row: lost, and shown so in the books.")
