"""A scripted provider: it says exactly the bytes it is told to, per credential, and remembers every request.

    upstream = Upstream("openai", keys=["sk-1", "sk-2"])
    upstream.on("sk-1", replies.error(429, retry_after=1))     # once; afterwards the default answer
    upstream.requests[0].key                                   # the credential of the first request

HTTP/1.1 is written by hand, so that a test owns every byte and every moment; HTTP/2 goes through the `h2` package.
"""

import asyncio
import itertools
import json
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

import h2.config
import h2.connection
import h2.events
import h2.exceptions


class Fault(Enum):
    """How a reply breaks off."""

    RESET = "the connection is reset (HTTP/2: the stream)"
    CLOSE = "the connection is closed before the message is complete"


class Gate:
    """A point in a reply where the upstream waits for the test."""

    def __init__(self):
        self.reached = threading.Event()
        self._opened = Future()

    def open(self):
        if not self._opened.done():
            self._opened.set_result(None)

    async def wait(self):
        self.reached.set()
        await asyncio.wrap_future(self._opened)


@dataclass(frozen=True)
class Reply:
    """One answer. Each piece of bytes is written by itself: one chunk, or one DATA frame."""

    status: int | None = 200  # None: the fault comes before any answer
    headers: tuple[tuple[str, str], ...] = ()
    pieces: tuple[bytes | Gate | Fault, ...] = ()
    framing: str = "length"  # length | chunked
    informational: tuple[int, ...] = ()
    trailers: tuple[tuple[str, str], ...] = ()
    pace: float = 0.0
    """Seconds between pieces, so that the kernel does not deliver two as one."""

    @property
    def body(self) -> bytes:
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))


_ORDER = itertools.count()


@dataclass
class Seen:
    """One request as it arrived."""

    provider: str
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    protocol: str = "1.1"
    order: int = field(default_factory=lambda: next(_ORDER))
    arrived: float = field(default_factory=time.monotonic)
    reply: "Reply | None" = None
    replied: float = float("inf")  # when the reply was decided
    aborted: bool = False  # the gateway went away before the reply was complete

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def key(self) -> str | None:
        bearer = self.header("authorization")
        if bearer:
            return bearer.removeprefix("Bearer ")
        return next((value for key, value in self.headers if key in ("api-key", "x-api-key", "x-goog-api-key")), None)

    @property
    def json(self):
        return json.loads(self.body)


Answerer = Callable[[Seen], "Reply | Awaitable[Reply]"]


class Upstream:
    """Listens on a loopback port from construction to `stop`."""

    def __init__(self, name: str, keys: list[str], default: Answerer, http2: bool = False, tls: ssl.SSLContext | None = None):
        self.name = name
        self.keys = keys
        self.default = default
        self.http2 = http2
        self.tls = tls
        self.anyone: Answerer | None = None
        """Answers in place of all scripts, whatever the credential."""
        self.requests: list[Seen] = []
        self._scripts: dict[str, deque[Reply]] = defaultdict(deque)
        self._always: dict[str, Answerer] = {}
        self._changed = threading.Condition()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"upstream {name}", daemon=True)
        self._thread.start()

    def on(self, key: str, *replies: Reply):
        """Says these replies, one after the other, to requests that carry this key."""
        self._scripts[key].extend(replies)

    def always(self, key: str, reply: Reply | Answerer):
        """Says this to every request of the key, once its script is over."""
        self._always[key] = (lambda _: reply) if isinstance(reply, Reply) else reply

    def wait_for(self, condition: Callable[[list[Seen]], bool], timeout: float = 10):
        """Returns once the journal fulfils the condition."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.requests), timeout), f"{self.name}: {self.requests}"

    def stop(self):
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        serve = self._serve_http2 if self.http2 else self._serve_http1
        self._server = self._loop.run_until_complete(asyncio.start_server(serve, sock=self._socket, limit=1 << 26, ssl=self.tls))
        self._loop.run_forever()

    async def _shut_down(self):
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _remember(self, seen: Seen):
        with self._changed:
            self.requests.append(seen)
            self._changed.notify_all()

    def _note_abort(self, seen: Seen):
        with self._changed:
            seen.aborted = True
            self._changed.notify_all()

    async def _reply_to(self, seen: Seen) -> Reply:
        self._remember(seen)
        seen.reply = await self._choose(seen)
        seen.replied = time.monotonic()
        return seen.reply

    async def _choose(self, seen: Seen) -> Reply:
        if self.anyone:
            return self.anyone(seen)
        script = self._scripts.get(seen.key or "")
        if script:
            return script.popleft()
        if seen.key not in self.keys:
            return Reply(401, JSON, (b'{"error":{"message":"not a key of this provider","code":"invalid_api_key"}}',))
        reply = self._always.get(seen.key, self.default)(seen)
        return await reply if isinstance(reply, Awaitable) else reply

    async def _serve_http1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while seen := await self._read_http1(reader):
                reply = await self._reply_to(seen)
                try:
                    if not await _write_http1(reply, writer):
                        return
                except ConnectionError:
                    self._note_abort(seen)
                    return
        writer.close()

    async def _read_http1(self, reader: asyncio.StreamReader) -> Seen | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        request_line, *lines = head.decode("latin-1").strip().split("\r\n")
        method, path, _ = request_line.split(" ")
        headers = [(name.lower(), value.strip()) for name, value in (line.split(":", 1) for line in lines)]
        seen = Seen(self.name, method, path, headers)
        if seen.header("transfer-encoding") == "chunked":
            chunks = []
            while size := int((await reader.readline()).split(b";")[0], 16):
                chunks.append(await reader.readexactly(size))
                await reader.readline()
            await reader.readline()
            seen.body = b"".join(chunks)
        else:
            seen.body = await reader.readexactly(int(seen.header("content-length") or 0))
        return seen

    async def _serve_http2(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        with suppress(ConnectionError, asyncio.CancelledError):
            await _Http2Connection(self, reader, writer).run()
        writer.close()


JSON = (("content-type", "application/json"),)


async def _write_http1(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    """Whether the connection can take another request."""
    if reply.status is not None:
        for status in reply.informational:
            writer.write(f"HTTP/1.1 {status} Early Hints\r\n\r\n".encode())
        length = f"content-length: {len(reply.body)}" if reply.framing == "length" else "transfer-encoding: chunked"
        fields = "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
        writer.write(f"HTTP/1.1 {reply.status} Scripted\r\n{fields}{length}\r\n\r\n".encode("latin-1"))
        await writer.drain()
    for piece in reply.pieces:
        if isinstance(piece, Gate):
            await piece.wait()
        elif piece is Fault.RESET:
            # With SO_LINGER 0 the kernel sends RST instead of FIN.
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            return False
        elif piece is Fault.CLOSE:
            writer.close()
            return False
        else:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if reply.framing == "chunked" else piece)
            await writer.drain()
            await asyncio.sleep(reply.pace)
    if reply.framing == "chunked":
        trailers = "".join(f"{name}: {value}\r\n" for name, value in reply.trailers)
        writer.write(f"0\r\n{trailers}\r\n".encode())
        await writer.drain()
    return True


class _Http2Connection:
    """Prior-knowledge HTTP/2, one task per stream."""

    def __init__(self, upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.upstream = upstream
        self.reader = reader
        self.writer = writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
        self.open: dict[int, Seen] = {}
        self.answering: dict[int, Seen] = {}
        self.tasks: set[asyncio.Task] = set()
        self.window = asyncio.Condition()

    async def run(self):
        self.h2.initiate_connection()
        await self.flush()
        while data := await self.reader.read(1 << 16):
            for event in self.h2.receive_data(data):
                await self.handle(event)
            await self.flush()

    async def handle(self, event: h2.events.Event):
        match event:
            case h2.events.RequestReceived():
                fields = [(str(name), str(value)) for name, value in event.headers]
                pseudo = dict(field for field in fields if field[0].startswith(":"))
                headers = [("host", pseudo[":authority"])] + [field for field in fields if not field[0].startswith(":")]
                seen = Seen(self.upstream.name, pseudo[":method"], pseudo[":path"], headers, protocol="2")
                self.open[event.stream_id] = seen
            case h2.events.DataReceived():
                self.open[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                task = asyncio.create_task(self.answer(event.stream_id, self.open.pop(event.stream_id)))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            case h2.events.StreamReset():
                if seen := self.answering.get(event.stream_id):
                    self.upstream._note_abort(seen)
                async with self.window:
                    self.window.notify_all()
            case h2.events.WindowUpdated():
                async with self.window:
                    self.window.notify_all()

    async def answer(self, stream: int, seen: Seen):
        self.answering[stream] = seen
        reply = await self.upstream._reply_to(seen)
        with suppress(h2.exceptions.ProtocolError, ConnectionError):
            if reply.status is not None:
                self.h2.send_headers(stream, [(":status", str(reply.status)), *reply.headers])
                await self.flush()
            for piece in reply.pieces:
                if isinstance(piece, Gate):
                    await piece.wait()
                elif piece is Fault.RESET:
                    self.h2.reset_stream(stream, 2)  # INTERNAL_ERROR, RFC 9113 section 7
                    return await self.flush()
                elif piece is Fault.CLOSE:
                    return self.writer.close()
                else:
                    await self.send(stream, piece)
                    await asyncio.sleep(reply.pace)
            if reply.trailers:
                self.h2.send_headers(stream, reply.trailers, end_stream=True)
            else:
                self.h2.end_stream(stream)
            await self.flush()
        del self.answering[stream]
        return None

    async def send(self, stream: int, data: bytes):
        while data:
            async with self.window:
                await self.window.wait_for(lambda: self.h2.local_flow_control_window(stream) > 0)
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            self.h2.send_data(stream, data[:room])
            data = data[room:]
            await self.flush()

    async def flush(self):
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()
