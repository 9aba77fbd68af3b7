"""MQTT 3.1.1 and 5.0 in cases, written from the standards' normative statements; against any server.

    python conform/mqtt_cases.py --address 127.0.0.1:1883 [--only TEXT]

A case names the statements of 5.0 that it shows (MQTT-x.y.z-n). Where 3.1.1 says the same it runs with both versions;
statements of 3.1.1 alone are marked so. The last line counts.
"""

import argparse
import sys
import time
import traceback

from mqtt_client import SECONDS, V3, V5, Client, binary, packet, varint

BOTH = (V3, V5)
MALFORMED, PROTOCOL, TAKEN_OVER = 0x81, 0x82, 0x8E
CASES = []


def case(statements, versions=BOTH):
    """Notes a case for these versions."""

    def note(run):
        CASES.extend((statements, version, run) for version in versions)
        return run

    return note


class Bench:
    """What a case has: clients of its version, and names that nobody used before."""

    def __init__(self, address, version):
        self.address, self.version, self.clients = address, version, []

    def socket(self, version=None):
        """A client that has said nothing yet."""
        client = Client(self.address, version or self.version)
        self.clients.append(client)
        return client

    def client(self, *args, **more):
        """A client that is connected."""
        client = self.socket()
        client.connack = client.connect(*args, **more)
        assert client.connack.reason == 0, client.connack
        return client

    def lasting(self, name, **more):
        """A client whose session outlives its connection."""
        lasts = {"session_expiry": 300} if self.version == V5 else {}
        return self.client(name, **{"clean": False} | lasts | more)

    def name(self):
        return Client.name()

    def close(self):
        for client in self.clients:
            client.cut()


# CONNECT and CONNACK (§3.1, §3.2)


@case("3.1.0-1")
def nothing_comes_before_connect(at):
    client = at.socket()
    client.send(packet("PINGREQ"))
    client.ended(PROTOCOL)


@case("3.1.0-2")
def a_second_connect_ends_the_connection(at):
    client = at.client()
    client.send(packet("CONNECT", binary("MQTT") + bytes([at.version, 2, 0, 60]) + client.properties({}) + binary("again")))
    client.ended(PROTOCOL)


@case("3.1.2-1")
def another_protocol_is_not_answered(at):
    client = at.socket()
    client.send(packet("CONNECT", binary("QTTM") + bytes([at.version, 2, 0, 60]) + client.properties({}) + binary("it")))
    client.refused(1, 0x84)


@case("3.1.2-2", [V3])
def an_unknown_version_is_refused(at):
    client = at.socket()
    client.send(packet("CONNECT", binary("MQTT") + bytes([7, 2, 0, 60]) + binary("it")))
    client.refused(1, 0x84)


@case("3.1.2-3")
def the_reserved_flag_of_connect_is_zero(at):
    client = at.socket()
    client.send(packet("CONNECT", binary("MQTT") + bytes([at.version, 3, 0, 60]) + client.properties({}) + binary("it")))
    client.refused(MALFORMED, PROTOCOL)


@case("3.1.2-11, -12, -13")
def flags_of_a_will_are_checked(at):
    for flags in (2 | 4 | 3 << 3, 2 | 1 << 3, 2 | 1 << 5):
        client = at.socket()
        will = client.properties({}) + binary("will") + binary("") if flags & 4 else b""
        head = binary("MQTT") + bytes([at.version, flags, 0, 60]) + client.properties({})
        client.send(packet("CONNECT", head + binary(at.name()) + will))
        client.refused(MALFORMED, PROTOCOL)


@case("3.1.2-22 of 3.1.1", [V3])
def a_password_needs_a_user_name(at):
    client = at.socket()
    client.send(packet("CONNECT", binary("MQTT") + bytes([V3, 2 | 64, 0, 60]) + binary(at.name()) + binary("secret")))
    client.ended(MALFORMED)


@case("3.1.3-6, -7, 3.2.2-16")
def who_has_no_client_id_gets_one(at):
    client = at.client("")
    if at.version == V5:
        assert client.connack.properties["assigned_client_identifier"]
    client.quiet()


@case("3.1.3-8 of 3.1.1", [V3])
def a_session_that_lasts_needs_a_client_id(at):
    client = at.socket()
    assert client.connect("", clean=False).reason == 2
    client.ended()


@case("3.1.4-3")
def the_second_of_a_client_id_takes_over(at):
    name = at.name()
    first = at.client(name)
    second = at.client(name)
    first.ended(TAKEN_OVER)
    second.quiet()


@case("3.1.2-22")
def who_is_silent_for_too_long_is_gone(at):
    client = at.client(keep_alive=1)
    client.ended(0x8D)


@case("3.1.2-4, -5, -6, 3.2.2-2, -3")
def a_session_is_there_until_a_clean_start(at):
    name = at.name()
    assert not at.lasting(name).connack.present
    again = at.lasting(name)
    assert again.connack.present
    again.disconnect()
    assert not at.client(name).connack.present


@case("3.1.2-23, 4.1.0-2", [V5])
def without_an_expiry_a_session_ends_with_its_connection(at):
    name = at.name()
    at.client(name, clean=False).disconnect()
    assert not at.lasting(name).connack.present


@case("3.14.2-2", [V5])
def a_goodbye_may_shorten_a_session_and_not_make_one(at):
    name = at.name()
    at.lasting(name).disconnect(0, session_expiry=0)
    assert not at.lasting(name).connack.present
    brief = at.client()
    brief.send(packet("DISCONNECT", b"\0" + brief.properties({"session_expiry": 5})))
    brief.ended(PROTOCOL)


@case("3.1.2.11", [V5])
def properties_that_are_wrong_refuse_a_connect(at):
    for said in ({"receive_maximum": 0}, {"maximum_packet_size": 0}, {"request_problem_information": 2}, {"session_expiry": [1, 2]}, {"topic_alias": 1}):
        client = at.socket()
        client.say_connect(**said)
        client.refused(MALFORMED, PROTOCOL)


@case("3.2.2.3", [V5])
def a_connack_announces_what_is_bounded(at):
    said = at.client().connack.properties
    assert said.get("receive_maximum", 65535) > 0 and said.get("maximum_packet_size", 1) > 0
    for name in ("retain_available", "wildcard_subscription_available", "subscription_identifier_available", "shared_subscription_available"):
        assert said.get(name, 1) == 1, name
    assert "maximum_qos" not in said, "all three are there"


@case("4.12.0-1", [V5])
def an_unknown_way_to_authenticate_is_refused(at):
    client = at.socket()
    assert client.connect(authentication_method="no such method").reason == 0x8C
    client.ended()


@case("4.12.0-6, 4.12.0-7", [V5])
def auth_without_a_method_is_an_error(at):
    client = at.client()
    client.send(packet("AUTH", b"\x18" + client.properties({"authentication_method": "SCRAM-SHA-256"})))
    client.ended(PROTOCOL)


# Malformed packets (§1.5, §2, §4.13)


@case("1.5.5-1, 4.13.1-1")
def a_length_of_five_bytes_is_none(at):
    client = at.client()
    client.send(b"\x30\xff\xff\xff\xff\x01")
    client.ended(MALFORMED)


@case("1.5.4-1, -2")
def text_is_utf8_without_nul(at):
    for topic in (b"\xff\xfe", b"\xed\xa0\x80", b"a\0b", b"\xc0\xaf"):
        client = at.client()
        client.send(packet("PUBLISH", binary(topic) + client.properties({})))
        client.ended(MALFORMED, PROTOCOL, 0x90)


@case("1.5.4-3")
def a_byte_order_mark_is_kept(at):
    client = at.client()
    topic = f"\ufeff{at.name()}"
    client.subscribe((topic, 0))
    client.publish(topic, "x")
    client.message("x", topic=topic)


@case("2.1.3-1")
def reserved_flags_are_as_they_must_be(at):
    wrong = [("PINGREQ", b"", 1), ("SUBSCRIBE", b"\0\1" + binary("a") + b"\0", 0), ("UNSUBSCRIBE", b"\0\1" + binary("a"), 0)]
    wrong += [("PUBREL", b"\0\1", 0), ("PUBACK", b"\0\1", 2), ("DISCONNECT", b"", 1)]
    for kind, body, flags in wrong:
        client = at.client()
        if at.version == V5 and kind in ("SUBSCRIBE", "UNSUBSCRIBE"):
            body = body[:2] + b"\0" + body[2:]
        client.send(packet(kind, body, flags))
        client.ended(MALFORMED, PROTOCOL)


@case("4.13.1-1")
def what_only_a_server_says_is_an_error(at):
    for kind, body in (("CONNACK", b"\0\0"), ("SUBACK", b"\0\1\0"), ("UNSUBACK", b"\0\1"), ("PINGRESP", b"")):
        client = at.client()
        client.send(packet(kind, body))
        client.ended(MALFORMED, PROTOCOL)
    client = at.client()
    client.send(b"\x00\x00")
    client.ended(MALFORMED, PROTOCOL)


@case("2.2.1-2, -3")
def no_packet_id_is_zero(at):
    publish = packet("PUBLISH", binary("a") + b"\0\0" + (b"\0" if at.version == V5 else b""), 2)
    subscribe = packet("SUBSCRIBE", b"\0\0" + (b"\0" if at.version == V5 else b"") + binary("a") + b"\0")
    unsubscribe = packet("UNSUBSCRIBE", b"\0\0" + (b"\0" if at.version == V5 else b"") + binary("a"))
    for wrong in (publish, subscribe, unsubscribe):
        client = at.client()
        client.send(wrong)
        client.ended(MALFORMED, PROTOCOL)


@case("2.2.2-1, 4.13.1-1", [V5])
def properties_that_come_twice_or_are_unknown_are_errors(at):
    twice = varint(4) + b"\x01\x00\x01\x00"
    unknown = varint(2) + b"\x7f\x00"
    cut = varint(3) + b"\x02\x00\x00"
    for wrong in (twice, unknown, cut):
        client = at.client()
        client.send(packet("PUBLISH", binary("a") + wrong))
        client.ended(MALFORMED, PROTOCOL)


@case("4.2-1")
def packets_may_come_byte_by_byte(at):
    client, topic = at.client(), at.name()
    client.subscribe((topic, 0))
    for byte in packet("PUBLISH", binary(topic) + client.properties({}) + b"hello"):
        client.send(bytes([byte]))
    client.message("hello")


# PUBLISH and its acknowledgements (§3.3 to §3.7, §4.3)


@case("3.3.4-1, 4.3.1-1, 4.3.2-4, 4.3.3-8 to -11")
def each_qos_is_acknowledged_as_it_says(at):
    client, topic = at.client(), at.name()
    client.publish(topic, "0")
    client.quiet()
    client.publish_whole(topic, "1", 1)
    client.publish_whole(topic, "2", 2)


@case("3.8.4-8")
def a_message_comes_at_the_lower_qos(at):
    for granted in range(3):
        topic = at.name()
        reader, writer = at.client(), at.client()
        assert reader.subscribe((topic, granted)) == [granted]
        for qos in range(3):
            writer.publish_whole(topic, f"{qos}", qos)
            reader.message(f"{qos}", qos=min(qos, granted), topic=topic, retain=0, dup=0)


@case("3.3.1-4, 3.3.1-2")
def no_message_has_qos_three_or_is_a_duplicate_at_qos_zero(at):
    for flags in (3 << 1, 1 << 3):
        client = at.client()
        body = binary("a") + (b"\0\1" if flags & 6 else b"") + client.properties({})
        client.send(packet("PUBLISH", body, flags))
        client.ended(MALFORMED)


@case("3.3.2-1, -2")
def a_topic_is_there_and_has_no_wildcards(at):
    for topic in ("a/+", "#", "a/#/b", ""):
        client = at.client()
        client.publish(topic, "x")
        client.ended(MALFORMED, PROTOCOL, 0x90)


@case("4.3.3-10, 4.3.3-12")
def what_comes_again_before_its_release_is_delivered_once(at):
    reader, writer, topic = at.client(), at.client(), at.name()
    reader.subscribe((topic, 0))
    for dup in (0, 1):
        writer.publish(topic, "once", 2, dup=dup, number=7)
        writer.receive("PUBREC", id=7, reason=0)
    for _ in range(2):
        writer.ack("PUBREL", 7)
        assert writer.receive("PUBCOMP", id=7).reason in (0, 0x92)
    writer.publish_whole(topic, "the next", 2, number=7)
    reader.message("once")
    reader.message("the next")


@case("3.6.2-1")
def a_release_of_nothing_is_completed(at):
    client = at.client()
    client.ack("PUBREL", 99)
    assert client.receive("PUBCOMP", id=99).reason == (0x92 if at.version == V5 else 0)


@case("3.4.2-1, 3.5.2-1")
def what_nobody_subscribes_to_is_accepted(at):
    client = at.client()
    for qos, kind in ((1, "PUBACK"), (2, "PUBREC")):
        number = client.publish(at.name(), "x", qos)
        assert client.receive(kind, id=number).reason in (0, 0x10)


@case("4.6.0-5, -6")
def messages_come_in_order(at):
    reader, writer, topic = at.client(), at.client(), at.name()
    for qos in range(3):
        reader.subscribe((f"{topic}/{qos}", qos))
        for n in range(30):
            writer.publish_whole(f"{topic}/{qos}", str(n), qos)
        came = []
        while len(came) < 30:
            found = reader.next_packet()
            if found.kind == "PUBLISH":
                came.append(int(found.payload))
                if found.qos:
                    reader.ack("PUBACK" if found.qos == 1 else "PUBREC", found.id)
            else:
                reader.ack("PUBCOMP", found.id)
        assert came == list(range(30)), came
        reader = at.client()


@case("4.6.0-2 to -4, 4.3.3")
def answers_come_in_the_order_of_the_questions(at):
    client, topic = at.client(), at.name()
    numbers = [client.publish(topic, "x", 1 + n % 2) for n in range(20)]
    for n, number in enumerate(numbers):
        client.receive("PUBREC" if n % 2 else "PUBACK", id=number)


@case("3.3.2-4, -15 to -20", [V5])
def properties_pass_as_they_are(at):
    reader, writer, topic = at.client(), at.client(), at.name()
    reader.subscribe((topic, 1))
    named = [("key", "k"), ("event", "open"), ("id", "1"), ("from", "x"), ("cursor", "y"), ("after", "z")]
    for payload_format in (0, 1):
        for pairs in ([("b", "2"), ("a", "1"), ("b", "3")], named, [("a", "")] * 50):
            said = {"payload_format": payload_format, "content_type": "text/x", "response_topic": "answers/1", "correlation": b"\0\xff", "user": pairs}
            for number in range(3):
                writer.publish_whole(topic, str(number), 1, **said)
                assert reader.message(str(number)).properties == said, "nothing is added, removed or put into another order"


@case("3.3.2.3.2", [V5])
def a_payload_that_is_not_the_text_it_says_to_be_is_refused(at):
    client = at.client()
    number = client.publish(at.name(), b"\xff", 1, payload_format=1)
    found = client.next_packet()
    # Servers may check it, and must not call it anything else.
    assert found.reason in (0, 0x10, 0x99) and (found.kind == "DISCONNECT" or found.id == number), found


@case("3.3.2-5, -6", [V5])
def what_has_expired_comes_no_more_and_the_rest_says_how_long(at):
    writer, topic = at.client(), at.name()
    writer.publish_whole(f"{topic}/long", "stays", 1, retain=1, message_expiry=300)
    writer.publish_whole(f"{topic}/short", "goes", 1, retain=1, message_expiry=1)
    reader, deadline = at.client(), time.monotonic() + SECONDS
    while True:
        # Each time greeted by what is left, and a message as the end of it.
        reader.subscribe((f"{topic}/short", 0))
        writer.publish(f"{topic}/short", "end")
        if reader.receive("PUBLISH").payload == b"end":
            break
        assert time.monotonic() < deadline, "it never expires"
        reader.message("end")
        reader.unsubscribe(f"{topic}/short")
    reader.subscribe((f"{topic}/long", 0))
    assert 0 < reader.message("stays", retain=1).properties["message_expiry"] < 300


@case("3.3.2-8 to -12", [V5])
def an_alias_stands_for_a_topic(at):
    reader, writer, topic = at.client(), at.client(), at.name()
    most = writer.connack.properties.get("topic_alias_maximum", 0)
    if not most:
        return
    reader.subscribe((f"{topic}/+", 0))
    writer.publish(f"{topic}/a", "1", topic_alias=most)
    writer.publish("", "2", topic_alias=most)
    writer.publish(f"{topic}/b", "3", topic_alias=most)
    writer.publish("", "4", topic_alias=most)
    for payload, end in (("1", "a"), ("2", "a"), ("3", "b"), ("4", "b")):
        reader.message(payload, topic=f"{topic}/{end}")
    for alias in (0, most + 1):
        if alias < 65536:
            wrong = at.client()
            wrong.publish(topic, "x", topic_alias=alias)
            wrong.ended(0x94, MALFORMED, PROTOCOL)
    other = at.client()
    other.publish("", "x", topic_alias=most)
    other.ended(PROTOCOL, 0x94)


@case("3.1.2-26, -27, 3.3.2-11", [V5])
def aliases_go_out_as_many_as_are_wanted(at):
    writer, topic = at.client(), at.name()
    for most in (0, 2):
        reader = at.client(**({"topic_alias_maximum": most} if most else {}))
        reader.subscribe((f"{topic}/#", 0))
        names = {}
        for n in range(12):
            writer.publish(f"{topic}/{n % 3}", str(n))
            found = reader.message(str(n))
            alias = found.properties.get("topic_alias")
            assert alias is None or 1 <= alias <= most, found
            if alias and found.topic:
                names[alias] = found.topic
            assert (found.topic or names[alias]) == f"{topic}/{n % 3}", found


@case("3.3.4-9, 4.9.0-1 to -3", [V5])
def no_more_is_under_way_than_the_client_takes(at):
    reader, writer, topic = at.client(receive_maximum=1), at.client(), at.name()
    reader.subscribe((topic, 2))
    for n in range(4):
        writer.publish_whole(topic, str(n), 1 + n % 2)
    for n in range(4):
        found = reader.receive("PUBLISH", payload=str(n).encode())
        reader.quiet()
        if found.qos == 1:
            reader.ack("PUBACK", found.id)
        else:
            reader.ack("PUBREC", found.id)
            reader.receive("PUBREL", id=found.id)
            reader.quiet()
            reader.ack("PUBCOMP", found.id)


@case("3.3.4-7, -8", [V5])
def more_under_way_than_the_server_takes_is_an_error(at):
    client, topic = at.client(), at.name()
    most = client.connack.properties.get("receive_maximum", 65535)
    if most > 5000:
        return
    try:
        for n in range(most + 1):
            client.publish(topic, "x", 2)
    except ConnectionError:
        pass
    while (found := client.next_packet()) is not None:
        assert found.kind == "PUBREC" or found.reason == 0x93, found


@case("3.1.2-24, -25", [V5])
def what_is_too_large_for_a_client_is_left_out(at):
    reader, writer, topic = at.client(maximum_packet_size=200), at.client(), at.name()
    reader.subscribe((topic, 1))
    writer.publish_whole(topic, "x" * 300, 1)
    writer.publish_whole(topic, "small", 1)
    reader.message("small")


@case("3.1.2-24", [V5])
def a_client_gets_no_packet_above_its_maximum(at):
    client = at.socket()
    client.say_connect(maximum_packet_size=4)
    assert client.next_packet() is None, "no CONNACK is that short"
    client = at.client(maximum_packet_size=100)
    filters = b"".join(binary(f"a/{number}") + b"\0" for number in range(200))
    client.send(packet("SUBSCRIBE", b"\0\1\0" + filters))
    found = client.next_packet()
    assert found is None or found.kind == "DISCONNECT", "a SUBACK that can't be shortened"


@case("4.6.0, 3.3.1-11", [V5])
def what_a_client_published_before_is_not_new_to_its_filters(at):
    client, topic = at.client(), at.name()
    for qos in (0, 1):
        client.publish(topic, "before", qos, retain=1)
        if qos:
            client.receive("PUBACK")
        client.subscribe((topic, 0x20))
        client.quiet()
        client.unsubscribe(topic)


@case("3.2.2-15", [V5])
def what_is_too_large_for_the_server_is_an_error(at):
    client = at.client()
    most = client.connack.properties.get("maximum_packet_size")
    if most is None:
        return
    client.send(b"\x30" + varint(most))
    client.ended(0x95)


# Retained messages (§3.3.1.3)


@case("3.3.1-5, -6, -8, 3.8.4-4")
def the_last_retained_message_greets_who_subscribes(at):
    writer, topic = at.client(), at.name()
    for payload in ("old", "new"):
        writer.publish_whole(topic, payload, 1, retain=1)
    writer.publish_whole(topic, "passes", 1)
    reader = at.client()
    reader.subscribe((topic, 1))
    reader.message("new", retain=1, topic=topic)
    writer.publish_whole(topic, "live", 1, retain=1)
    reader.message("live", retain=0)


@case("3.3.1-6, -7")
def an_empty_retained_message_takes_it_away(at):
    writer, topic = at.client(), at.name()
    watcher = at.client()
    watcher.subscribe((topic, 1))
    for payload in ("there", ""):
        writer.publish_whole(topic, payload, 1, retain=1)
        watcher.message(payload, retain=0)
    reader = at.client()
    reader.subscribe((topic, 1))
    reader.quiet()
    writer.publish_whole(topic, "the next", 1)
    reader.message("the next", retain=0)


@case("3.8.4-3, 3.3.1-9")
def subscribing_again_greets_again_and_doubles_nothing(at):
    writer, reader, topic = at.client(), at.client(), at.name()
    writer.publish_whole(topic, "kept", 1, retain=1)
    for qos in (0, 1):
        reader.subscribe((topic, qos))
        reader.message("kept", retain=1, qos=qos)
    writer.publish_whole(topic, "live", 1)
    reader.message("live", qos=1)
    writer.publish_whole(topic, "end", 1)
    reader.message("end")


@case("3.3.1-9, -10, -11", [V5])
def retain_handling_says_whom_a_retained_message_greets(at):
    writer, topic = at.client(), at.name()
    writer.publish_whole(topic, "kept", 1, retain=1)
    for handling, greeted in ((0, (True, True)), (1, (True, False)), (2, (False, False))):
        reader = at.client()
        for is_greeted in greeted:
            reader.subscribe((topic, handling << 4))
            writer.publish(f"{topic}", "end")
            if is_greeted:
                reader.message("kept", retain=1)
            reader.message("end", retain=0)


@case("3.3.1-12, -13", [V5])
def retain_as_published_passes_the_flag_on(at):
    writer, topic = at.client(), at.name()
    plain, published = at.client(), at.client()
    plain.subscribe((topic, 0))
    published.subscribe((topic, 8))
    for retain in (1, 0):
        writer.publish(topic, "x", retain=retain)
        plain.message("x", retain=0)
        published.message("x", retain=retain)


# SUBSCRIBE and UNSUBSCRIBE (§3.8 to §3.11, §4.7)


@case("3.8.4-1, -2, -5, -6, 3.9.3-1")
def each_filter_has_its_answer_in_its_place(at):
    client, topic = at.client(), at.name()
    assert client.subscribe((f"{topic}/0", 0), (f"{topic}/1", 1), (f"{topic}/2", 2)) == [0, 1, 2]


@case("3.8.3-2, -4, -5")
def a_subscribe_that_is_wrong_ends_the_connection(at):
    options = [3] + ([0x30, 0x40] if at.version == V5 else [4])
    for wrong in [b""] + [binary("a") + bytes([one]) for one in options]:
        client = at.client()
        client.send(packet("SUBSCRIBE", b"\0\1" + client.properties({}) + wrong))
        client.ended(MALFORMED, PROTOCOL)


@case("4.7.1-1, -2, 4.7.3-1")
def wildcards_stand_alone_in_their_level(at):
    for wrong in ("a/#/b", "a#", "#a", "a+", "+a/b", "a/b+/c", ""):
        client = at.client()
        body = b"\0\1" + client.properties({}) + binary(wrong) + b"\0"
        client.send(packet("SUBSCRIBE", body))
        client.ended(MALFORMED, PROTOCOL, 0x8F)


@case("4.5.0-1, 4.7")
def filters_take_the_topics_that_they_should(at):
    base = at.name()
    table = [
        ("sport/#", ["sport", "sport/", "sport/a", "sport/a/b"], ["sports", "spor"]),
        ("sport/+", ["sport/", "sport/a"], ["sport", "sport/a/b"]),
        ("+/+", ["/a", "a/b", "/"], ["a", "a/b/c"]),
        ("+", ["a"], ["/a", "a/b"]),
        ("/+", ["/a", "/"], ["a"]),
        ("a//b", ["a//b"], ["a/b", "a/x/b"]),
        ("a/+/b", ["a//b", "a/x/b"], ["a/b"]),
        ("Case", ["Case"], ["case"]),
        ("a b/c", ["a b/c"], ["ab/c"]),
    ]
    for number, (text, taken, left) in enumerate(table):
        reader, writer, top = at.client(), at.client(), f"{base}/{number}"
        assert reader.subscribe((f"{top}/{text}", 0)) == [0]
        reader.subscribe((f"{top}end", 0))
        for topic in left + taken:
            writer.publish(f"{top}/{topic}", topic)
        writer.publish(f"{top}end", "end")
        for topic in taken:
            reader.message(topic, topic=f"{top}/{topic}")
        reader.message("end")


@case("4.7.2-1")
def a_leading_wildcard_takes_no_topic_with_a_dollar(at):
    reader, topic = at.client(), at.name()
    reader.subscribe(("#", 0), ("+/x", 0))
    writer = at.client()
    writer.publish(topic, "end")
    while (found := reader.receive("PUBLISH")).payload != b"end":
        assert not found.topic.startswith("$"), found


@case("3.3.4-2 to -5")
def who_subscribes_twice_gets_the_highest_qos(at):
    reader, writer, topic = at.client(), at.client(), at.name()
    reader.subscribe((f"{topic}/#", 1), (f"{topic}/+", 0))
    writer.publish_whole(f"{topic}/a", "both", 1)
    writer.publish_whole(f"{topic}/a/b", "end", 1)
    qos = []
    while (found := reader.receive("PUBLISH")).payload != b"end":
        qos.append(found.qos)
        if found.qos:
            reader.ack("PUBACK", found.id)
    assert max(qos) == 1 and len(qos) <= 2, qos


@case("3.3.4-3 to -5, 3.8.2.1.2", [V5])
def a_message_names_the_subscriptions_that_took_it(at):
    reader, writer, topic = at.client(), at.client(), at.name()
    reader.subscribe((f"{topic}/#", 1), subscription_identifier=7)
    reader.subscribe((f"{topic}/a", 1), subscription_identifier=268_435_455)
    writer.publish_whole(f"{topic}/b", "one", 1)
    assert reader.message("one").properties["subscription_identifier"] == [7]
    writer.publish_whole(f"{topic}/a", "both", 1)
    writer.publish_whole(f"{topic}/c", "end", 1)
    named = []
    while (found := reader.receive("PUBLISH")).payload != b"end":
        named += found.properties["subscription_identifier"]
        reader.ack("PUBACK", found.id)
    assert sorted(named) == [7, 268_435_455], named


@case("3.3.4-6, 3.8.2.1.2", [V5])
def identifiers_that_are_wrong_are_errors(at):
    client = at.client()
    client.send(packet("SUBSCRIBE", b"\0\1" + client.properties({"subscription_identifier": 0}) + binary("a") + b"\0"))
    client.ended(MALFORMED, PROTOCOL)
    client = at.client()
    client.publish("a", "x", subscription_identifier=1)
    client.ended(MALFORMED, PROTOCOL)


@case("3.8.3-3", [V5])
def no_local_leaves_out_what_is_ones_own(at):
    reader, topic = at.client(), at.name()
    reader.subscribe((topic, 4 | 1))
    reader.publish_whole(topic, "own", 1)
    at.client().publish_whole(topic, "another's", 1)
    reader.message("another's")


@case("3.10.4-1 to -6, 3.11.3-1, -2")
def what_is_unsubscribed_comes_no_more(at):
    reader, writer, topic = at.client(), at.client(), at.name()
    reader.subscribe((f"{topic}/a", 1), (f"{topic}/b", 1))
    reasons = reader.unsubscribe(f"{topic}/a", f"{topic}/never")
    assert reasons == ([0, 0x11] if at.version == V5 else [])
    writer.publish_whole(f"{topic}/a", "gone", 1)
    writer.publish_whole(f"{topic}/b", "end", 1)
    reader.message("end")


@case("3.10.4-3")
def what_is_under_way_ends_properly_after_an_unsubscribe(at):
    reader, writer, topic = at.client(), at.client(), at.name()
    reader.subscribe((topic, 2))
    writer.publish_whole(topic, "under way", 2)
    found = reader.receive("PUBLISH")
    reader.unsubscribe(topic)
    reader.complete(found)
    reader.quiet()


@case("3.10.3-2")
def an_unsubscribe_of_nothing_ends_the_connection(at):
    client = at.client()
    client.send(packet("UNSUBSCRIBE", b"\0\1" + client.properties({})))
    client.ended(MALFORMED, PROTOCOL)


# DISCONNECT and wills (§3.14, §3.1.2.5)


@case("3.14.4-3, 3.1.2-10")
def a_goodbye_voids_the_will(at):
    watcher, topic = at.client(), at.name()
    watcher.subscribe((f"{topic}/#", 1))
    at.client(will=(f"{topic}/will", "will", 1, 0, {})).disconnect()
    at.client().publish_whole(f"{topic}/end", "end", 1)
    watcher.message("end")


@case("3.1.2-7 to -9, -14, -15, 3.1.3-10")
def a_will_is_published_as_it_was_said(at):
    watcher, topic = at.client(), at.name()
    watcher.subscribe((topic, 2))
    said = {"content_type": "text/x", "user": [("a", "1")]} if at.version == V5 else {}
    for qos, retain in ((0, 0), (1, 1), (2, 1)):
        at.client(will=(topic, f"will {qos}", qos, retain, said)).cut()
        found = watcher.message(f"will {qos}", qos=qos, retain=0)
        if said:
            assert found.properties["content_type"] == "text/x" and ("a", "1") in found.properties["user"]
    late = at.client()
    late.subscribe((topic, 2))
    late.message("will 2", retain=1)


@case("3.14.2.1", [V5])
def a_goodbye_may_ask_for_the_will(at):
    watcher, topic = at.client(), at.name()
    watcher.subscribe((topic, 1))
    at.client(will=(topic, "will", 1, 0, {})).disconnect(4)
    watcher.message("will")


@case("3.1.2-8, 4.13.1-1")
def an_error_publishes_the_will(at):
    watcher, topic = at.client(), at.name()
    watcher.subscribe((topic, 1))
    client = at.client(will=(topic, "will", 1, 0, {}))
    client.send(packet("PUBLISH", b"\0", 6))
    client.ended(MALFORMED)
    watcher.message("will")


@case("3.1.4-3, 3.1.2-8")
def a_take_over_publishes_the_will(at):
    watcher, topic, name = at.client(), at.name(), at.name()
    watcher.subscribe((topic, 1))
    at.client(name, will=(topic, "will", 1, 0, {}))
    at.client(name)
    watcher.message("will")


@case("3.1.3-9", [V5])
def a_client_that_is_back_in_time_has_no_will(at):
    watcher, topic, name = at.client(), at.name(), at.name()
    watcher.subscribe((f"{topic}/#", 1))
    at.lasting(name, will=(f"{topic}/long", "will", 1, 0, {"will_delay": 30})).cut()
    at.lasting(name)
    at.lasting(at.name(), will=(f"{topic}/short", "after its delay", 1, 0, {"will_delay": 1})).cut()
    watcher.message("after its delay")


@case("3.1.3.2.2", [V5])
def a_will_comes_no_later_than_its_session_ends(at):
    watcher, topic = at.client(), at.name()
    watcher.subscribe((topic, 1))
    at.lasting(at.name(), session_expiry=1, will=(topic, "will", 1, 0, {"will_delay": 300})).cut()
    watcher.message("will")


@case("3.1.3-9, 3.1.2-8", [V5])
def the_end_of_a_session_is_the_end_of_its_wills_delay(at):
    watcher, topic, name = at.client(), at.name(), at.name()
    watcher.subscribe((topic, 1))
    will = {"will": (topic, "will", 1, 0, {"will_delay": 300})}
    at.lasting(name, **will).disconnect(4, session_expiry=0)
    watcher.message("will")
    at.lasting(name, **will).cut()
    at.client(name)
    watcher.message("will")


# Sessions (§4.1, §4.4)


@case("3.1.2-5, 4.1.0-1")
def a_session_gets_what_came_while_it_was_away(at):
    writer, topic, name = at.client(), at.name(), at.name()
    reader = at.lasting(name)
    reader.subscribe((f"{topic}/1", 1), (f"{topic}/2", 2))
    reader.disconnect()
    for n in range(6):
        writer.publish_whole(f"{topic}/{1 + n % 2}", str(n), 1 + n % 2)
    reader = at.lasting(name)
    assert reader.connack.present
    for n in range(6):
        reader.message(str(n), qos=1 + n % 2)
    writer.publish_whole(f"{topic}/1", "live", 1)
    reader.message("live")


@case("4.4.0-1, 3.3.1-1, 4.6.0-1")
def what_is_not_acknowledged_comes_again_under_its_id(at):
    writer, topic, name = at.client(), at.name(), at.name()
    reader = at.lasting(name)
    reader.subscribe((topic, 1))
    for n in range(3):
        writer.publish_whole(topic, str(n), 1)
    first = [reader.receive("PUBLISH", payload=str(n).encode(), dup=0) for n in range(3)]
    reader.cut()
    reader = at.lasting(name)
    for sent in first:
        reader.message(sent.payload, id=sent.id, dup=1)
    writer.publish_whole(topic, "live", 1)
    reader.message("live", dup=0)


@case("4.4.0-1, 4.3.3-7 to -13")
def exactly_once_goes_on_where_it_stood(at):
    writer, topic, name = at.client(), at.name(), at.name()
    reader = at.lasting(name)
    reader.subscribe((topic, 2))
    for payload in ("received", "sent"):
        writer.publish_whole(topic, payload, 2)
    received, sent = (reader.receive("PUBLISH", payload=payload, dup=0) for payload in (b"received", b"sent"))
    reader.ack("PUBREC", received.id)
    reader.receive("PUBREL", id=received.id)
    reader.cut()
    reader = at.lasting(name)
    again = [reader.next_packet() for _ in range(2)]
    assert sorted((found.kind, found.id) for found in again) == [("PUBLISH", sent.id), ("PUBREL", received.id)], again
    reader.ack("PUBCOMP", received.id)
    reader.complete(sent)
    reader.quiet()


@case("4.3.3-12, 4.1.0-1")
def a_publisher_may_come_again_over_a_reconnect(at):
    reader, topic, name = at.client(), at.name(), at.name()
    reader.subscribe((topic, 1))
    writer = at.lasting(name)
    writer.publish(topic, "once", 2, number=9)
    writer.receive("PUBREC", id=9)
    writer.cut()
    writer = at.lasting(name)
    writer.publish(topic, "once", 2, dup=1, number=9)
    writer.receive("PUBREC", id=9)
    writer.cut()
    writer = at.lasting(name)
    writer.ack("PUBREL", 9)
    writer.receive("PUBCOMP", id=9, reason=0)
    writer.publish_whole(topic, "end", 1)
    reader.message("once")
    reader.message("end")


@case("3.1.2-4")
def a_clean_start_forgets_everything(at):
    writer, topic, name = at.client(), at.name(), at.name()
    reader = at.lasting(name)
    reader.subscribe((f"{topic}/old", 1))
    writer.publish_whole(f"{topic}/old", "unread", 1)
    reader.receive("PUBLISH")
    reader.cut()
    reader = at.client(name)
    reader.subscribe((f"{topic}/end", 1))
    writer.publish_whole(f"{topic}/old", "not for it", 1)
    writer.publish_whole(f"{topic}/end", "end", 1)
    reader.message("end")


@case("4.3.2-5, 4.3.3-7, 4.9.0-1", [V5])
def a_negative_answer_ends_a_delivery(at):
    writer, topic = at.client(), at.name()
    reader = at.lasting(at.name(), receive_maximum=1)
    reader.subscribe((topic, 2))
    for payload, qos in (("one", 1), ("two", 2), ("three", 2)):
        writer.publish_whole(topic, payload, qos)
    reader.ack("PUBACK", reader.receive("PUBLISH", payload=b"one").id, 0x83)
    reader.ack("PUBREC", reader.receive("PUBLISH", payload=b"two").id, 0x80)
    reader.message("three")


@case("2.2.1-3, -4")
def deliveries_under_way_have_ids_of_their_own(at):
    reader, writer, topic = at.client(), at.client(), at.name()
    reader.subscribe((topic, 1))
    for n in range(15):
        writer.publish_whole(topic, str(n), 1)
    ids = [reader.receive("PUBLISH", payload=str(n).encode()).id for n in range(15)]
    assert len(set(ids)) == 15, ids
    for number in reversed(ids):
        reader.ack("PUBACK", number)
    writer.publish_whole(topic, "end", 1)
    reader.message("end")


# Shared subscriptions (§4.8.2)


@case("4.8.2-3 to -5", [V5])
def a_group_gets_each_message_once(at):
    topic = at.name()
    members = [at.client() for _ in range(3)]
    for member in members:
        assert member.subscribe((f"$share/group/{topic}", 1)) == [1]
    whole = at.client()
    whole.subscribe((topic, 1))
    other = at.client()
    other.subscribe((f"$share/other/{topic}", 1))
    writer = at.client()
    for n in range(30):
        writer.publish_whole(topic, str(n), 1)
    for n in range(30):
        whole.message(str(n))
        other.message(str(n))
    came = []
    for member in members:
        member.send(packet("PINGREQ"))
        while (found := member.next_packet()).kind != "PINGRESP":
            came.append(int(found.payload))
            member.ack("PUBACK", found.id)
    assert sorted(came) == list(range(30)), came


@case("4.8.2-6, 4.8.2.1", [V5])
def what_a_member_did_not_acknowledge_goes_to_another(at):
    topic = at.name()
    first, writer = at.client(), at.client()
    first.subscribe((f"$share/group/{topic}", 1))
    writer.publish_whole(topic, "it", 1)
    first.receive("PUBLISH", payload=b"it")
    second = at.client()
    second.subscribe((f"$share/group/{topic}", 1))
    first.cut()
    second.message("it")


@case("4.8.2-1, -2, 3.8.3-4", [V5])
def share_names_that_are_wrong_are_refused(at):
    for wrong, options in (("$share//a", 0), ("$share/a+/b", 0), ("$share/a#/b", 0), ("$share/a", 0), ("$share/a/", 0), ("$share/a/b", 4)):
        client = at.client()
        client.send(packet("SUBSCRIBE", b"\0\1\0" + binary(wrong) + bytes([options])))
        client.ended(MALFORMED, PROTOCOL, 0x8F)


@case("4.8.2, 3.10.4-1", [V5])
def who_leaves_a_group_leaves_it_to_the_others(at):
    topic = at.name()
    first, second, writer = at.client(), at.client(), at.client()
    for member in (first, second):
        member.subscribe((f"$share/group/{topic}", 1))
    assert first.unsubscribe(f"$share/group/{topic}", topic) == [0, 0x11]
    for n in range(6):
        writer.publish_whole(topic, str(n), 1)
        second.message(str(n))
    first.quiet()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:1883", help="HOST:PORT of the server")
    parser.add_argument("--only", default="", help="cases with this in their name or statements")
    arguments = parser.parse_args()
    host, port = arguments.address.rsplit(":", 1)
    passed = failed = 0
    for statements, version, run in CASES:
        if arguments.only not in f"{run.__name__} {statements}":
            continue
        bench = Bench((host, int(port)), version)
        words = f"{'3.1.1' if version == V3 else '5.0'} {run.__name__} ({statements})"
        try:
            run(bench)
            passed += 1
            print(f"pass {words}")
        except (AssertionError, OSError, KeyError, AttributeError) as error:
            failed += 1
            where = traceback.extract_tb(error.__traceback__)
            line = next(frame.lineno for frame in reversed(where) if frame.filename == __file__)
            print(f"FAIL {words}\n     line {line}: {type(error).__name__} {error}")
        finally:
            bench.close()
    print(f"MQTT: {passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
