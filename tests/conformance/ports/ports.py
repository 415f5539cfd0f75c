"""F24: more requests at once than the gateway has local ports for. What finds no port is refused at once and counted; what
has one is answered; afterwards everything is as before. Clients take their own ports from outside of the range."""

import asyncio
import time

from conformance import Cases, Gateway, check, expect

PORTS = 200
MORE = 60
HEAD = b"GET /%s HTTP/1.1\r\nHost: api.localhost\r\nConnection: close\r\n\r\n"


class Origin:
    """Answers a request for `/hold` once it is let go, any other at once, and then closes: no connection is used again."""

    def __init__(self):
        self.held = 0
        self.free = asyncio.Event()

    async def talk(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return writer.close()  # a probe
        if head.startswith(b"GET /hold"):
            self.held += 1
            await self.free.wait()
            self.held -= 1
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        # The gateway closes first, so that it is the gateway's port that stays taken for a while.
        await reader.read()
        writer.close()


async def ask(gateway, path, port):
    """The status and how long it took."""
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, local_addr=("127.0.0.1", port))
    writer.write(HEAD % path)
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return int(answer.split()[1]) if answer else 0, time.monotonic() - begun


async def main(cases):
    origin = Origin()
    server = await asyncio.start_server(origin.talk, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    text = f"services.api.upstreams = ['127.0.0.1:{port}']"
    gateway = Gateway(text)
    await asyncio.to_thread(gateway.__enter__)
    try:
        own = iter(range(20000, 39000))
        with cases.case("requests are answered while there are ports"):
            expect([200] * 5, [(await ask(gateway, b"", next(own)))[0] for _ in range(5)], "statuses")
        asked = [asyncio.create_task(ask(gateway, b"hold", next(own))) for _ in range(PORTS + MORE)]
        with cases.case("what finds no port is refused with 503 within a second"):
            done = set()
            deadline = time.monotonic() + 20
            while origin.held + len(done) < len(asked) and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
                done = {task for task in asked if task.done()}
            refused = [task.result() for task in done]
            expect({503}, {status for status, _ in refused}, "statuses of those who were not held")
            check(len(refused) >= MORE - 10, f"at least {MORE - 10} find no port, {len(refused)} were refused")
            slowest = max(took for _, took in refused)
            cases.note(f"refused={len(refused)} slowest={slowest * 1e3:.0f}ms held={origin.held}")
            check(slowest < 1, f"refused within a second; the slowest took {slowest:.2f} s")
        with cases.case("what is refused is counted, as our own fault and not the origin's"):
            ours = gateway.metric("tidegate_upstream_failures_total", 'failure="ours"')
            check(ours >= len(refused), f"{len(refused)} were refused, {ours} are counted as ours")
            connect = gateway.metric("tidegate_upstream_failures_total", 'failure="connect"')
            expect(0, connect, "failures that are held against the origin")
        with cases.case("what has a port is answered"):
            origin.free.set()
            answers = await asyncio.gather(*asked)
            expect(len(asked) - len(refused), sum(status == 200 for status, _ in answers), "answers with 200")
        with cases.case("it recovers as soon as ports are free"):
            # Those that were closed by the gateway stay taken for a minute (TIME_WAIT) towards this origin.
            deadline = time.monotonic() + 90
            status = 0
            while status != 200 and time.monotonic() < deadline:
                status, _ = await ask(gateway, b"", next(own))
                await asyncio.sleep(0.5)
            expect(200, status, "the status after a minute")
        with cases.case("nothing is left behind"):
            files = gateway.files()
            check(files < 100, f"fewer than 100 open files, {files} are")
    finally:
        await asyncio.to_thread(gateway.stop)
        server.close()


with Cases() as cases:
    asyncio.run(main(cases))
