"""What `scripts/bench-proxy` does with connections that wrk and h2load cannot: messages through tunnels, and silence.

    tunnel.py messages HOST PORT SECONDS CONNECTIONS    echoes WebSocket messages; prints how many came back
    tunnel.py idle HOST PORT CONNECTIONS                one request on each, then silence until standard input ends

Only the standard library. It is slow, and that is no harm: what is measured is the proxy's CPU time per message.
"""

import base64
import os
import selectors
import socket
import struct
import sys
import time

PAYLOAD = 64


def connect(host, port, head):
    """A connection on which `head` was sent and the answer's head was read; and what came behind it."""
    stream = socket.create_connection((host, port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.sendall(head)
    read = b""
    while b"\r\n\r\n" not in read:
        more = stream.recv(65536)
        if not more:
            sys.exit("the proxy closed a connection: " + repr(read))
        read += more
    head, _, rest = read.partition(b"\r\n\r\n")
    return stream, head, rest


def frame(opcode, payload):
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return struct.pack("!BB", 0x80 | opcode, 0x80 | len(payload)) + mask + masked


def messages(host, port, seconds, connections):
    key = base64.b64encode(os.urandom(16)).decode()
    ask = (
        f"GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()
    selector, message, echoed = selectors.DefaultSelector(), frame(2, b"x" * PAYLOAD), 0
    for _ in range(connections):
        stream, head, _ = connect(host, port, ask)
        if b" 101 " not in head:
            sys.exit("no tunnel: " + repr(head))
        selector.register(stream, selectors.EVENT_READ, bytearray())
        stream.sendall(message)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select(1):
            read = key.fileobj.recv(65536)
            if not read:
                sys.exit("a tunnel was closed")
            key.data.extend(read)
            # What comes back is not masked (RFC 6455, 5.1): the payload behind two bytes.
            while len(key.data) >= 2 + PAYLOAD:
                del key.data[: 2 + PAYLOAD]
                echoed += 1
                key.fileobj.sendall(message)
    print(echoed)


def idle(host, port, connections):
    ask = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    streams = [connect(host, port, ask)[0] for _ in range(connections)]
    print(len(streams), flush=True)
    sys.stdin.read()


def main():
    what, host, port, *numbers = sys.argv[1:]
    {"messages": messages, "idle": idle}[what](host, int(port), *map(int, numbers))


main()
