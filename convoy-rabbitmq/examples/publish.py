#!/usr/bin/env python3
"""Publishes to a convoy channel from Python: sessions in order, each message confirmed before the next of its session leaves.

    pip install pika
    printf 'order-17\tpaid\norder-17\tshipped\n' | python3 publish.py amqp://guest:guest@127.0.0.1:5672 orders

Each line is a session, a tab and a body. Lines that are minutes apart lose the connection: this client answers heartbeats only while it publishes. Python is not what convoy is written in: all that a publisher must know is in `slot` and `publish`.
The hash is tried on the test vectors of `slots.tsv` first; `python3 publish.py --check slots.tsv` does only that.
"""

import os
import sys

SLOTS = 1024
VECTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "slots.tsv")


def murmur2(data: bytes) -> int:
    """As the Kafka clients of the JVM have it: 32 bits, seed 0x9747b28c, the sign bit off."""
    word, factor = 0xFFFFFFFF, 0x5BD1E995
    whole = len(data) // 4 * 4
    h = 0x9747B28C ^ len(data)
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * factor & word
        k = (k ^ k >> 24) * factor & word
        h = h * factor & word ^ k
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * factor & word
    h = (h ^ h >> 13) * factor & word
    return (h ^ h >> 15) & 0x7FFFFFFF


def slot(session: bytes) -> int:
    """The slot of a session, which is what convoy routes by."""
    return murmur2(session) % SLOTS


def check(path: str) -> int:
    """Tries the hash on the test vectors, and says how many there were."""
    seen = 0
    with open(path, encoding="ascii") as vectors:
        for line in vectors:
            if line.strip() and not line.startswith("#"):
                session, wanted = line.split("\t")
                got = slot(bytes.fromhex(session))
                if got != int(wanted):
                    sys.exit(f"the session {session} (in hexadecimal) is in slot {int(wanted)}, and not {got}")
                seen += 1
    if seen == 0:
        sys.exit(f"{path} has no test vector")
    return seen


def publish(url: str, exchange: str, lines) -> int:
    """Publishes line by line. A message that no queue took, or that the broker refused, ends it: nothing of its session may go out behind it."""
    import pika
    from pika.exceptions import AMQPError, NackError, UnroutableError

    parameters = pika.URLParameters(url)
    # A broker under an alarm takes nothing. Without a limit that is waited for without an end.
    parameters.blocked_connection_timeout = 60
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    # With confirms, `basic_publish` returns when the broker has the message for good. So there is never more than one unconfirmed message of a session,
    # here not even of all of them. To be faster, have several channels and give each session to one of them.
    channel.confirm_delivery()
    sent = 0
    for line in lines:
        session, tab, body = line.rstrip(b"\n").partition(b"\t")
        if not tab or not session:
            sys.exit(f"line {sent + 1} is no session, a tab and a body; the {sent} before it were sent")
        try:
            name = session.decode("utf-8")
        except UnicodeDecodeError:
            name = session
        properties = pika.BasicProperties(headers={"convoy-session": name}, delivery_mode=2)
        # `mandatory`: without it a message that no lane takes is confirmed, and lost.
        try:
            channel.basic_publish(exchange, str(slot(session)), body, properties=properties, mandatory=True)
        except (NackError, UnroutableError) as why:
            sys.exit(f"line {sent + 1}, of session {name}, was not taken: {type(why).__name__}: {why}")
        except AMQPError as why:
            # It may have arrived: who sends it again sends it twice perhaps, and who goes on with the next one leaves it out perhaps.
            sys.exit(f"what became of line {sent + 1}, of session {name}, is unknown: {type(why).__name__}: {why}")
        sent += 1
    connection.close()
    return sent


def main(args) -> None:
    if len(args) == 2 and args[0] == "--check":
        print(f"RESULT vectors={check(args[1])} held=true")
    elif len(args) == 2 and not args[0].startswith("-"):
        check(VECTORS)
        print(f"RESULT sent={publish(args[0], args[1], sys.stdin.buffer)}")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
