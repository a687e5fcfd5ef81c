"""textual-serve's server with a token, a page that needs no other server, and an orderly end.

It is taken apart here because textual-serve 1.1.3 knows no access control, starts apps through a shell, leaves them
to themselves when it ends, and has its page wait for a font from the internet.
"""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler
from textual_serve.app_service import AppService
from textual_serve.server import Server

from launcher.errors import CannotRunHereError
from simpletuner_tui.serving.access import VARIABLE, Access

PATIENCE = 10.0
"""Seconds an app may take to leave."""
FILES = Path(__file__).parent
HEADERS = {
    # xterm.js writes its own styles; everything else comes from files of this server.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the address may hold the token
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class PageProcess(AppService):
    """The app of one page: this program again, in a session of its own, so that Ctrl-C reaches the server alone."""

    def _build_environment(self, width: int = 80, height: int = 24) -> dict[str, str]:
        environment = super()._build_environment(width, height)
        environment.pop(VARIABLE, None)  # runs inherit it, and their environment is for everybody to see
        return environment

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "simpletuner_tui"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=self._build_environment(width, height),
            start_new_session=True,
        )
        self._stdin = process.stdin
        return process

    async def run(self) -> None:
        """Passes on what the app draws; the page is told of its end, however it ends."""
        try:
            with contextlib.suppress(OSError):  # what it said last is passed on too, to a terminal that may be gone
                await super().run()
        finally:
            await self.remote_close()

    async def stop(self) -> None:
        """Asks the app to leave, and ends it where it does not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE) as patience:
                await super().stop()  # cut short, it returns as if all was well
                if self._process is not None and not patience.expired():
                    await self._process.wait()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class PageServer(Server):
    """Gives whoever has the token a page with an app of its own."""

    def __init__(self, access: Access, host: str, port: int) -> None:
        super().__init__("simpletuner-tui", host=host, port=port)
        self._access = access
        self._pages: set[PageProcess] = set()

    async def run(self, begun: Callable[[int], None]) -> int:
        """Serves until a signal asks it to end; apps leave with it, runs do not.

        Args:
            begun: called with the port, once pages can be opened.

        Returns:
            The signal.

        Raises:
            CannotRunHereError: nothing can listen there.
        """
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[int] = loop.create_future()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup wants to go on
                loop.add_signal_handler(number, _settle, asked, number)
        # Requests are not logged: the address of the first one has the token.
        runner = web.AppRunner(await self._make_app(), access_log=None, shutdown_timeout=PATIENCE)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, self.host, self.port).start()
            except OSError as error:
                why = os.strerror(error.errno or 0).lower()
                message = f"nothing can listen at {self.host}, port {self.port}: {why}; try --port 0"
                raise CannotRunHereError(message) from None
            begun(runner.addresses[0][1])
            return await asked
        finally:
            await runner.cleanup()

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._guard)
        app.on_response_prepare.append(_protect)
        app.router.add_get("/page.js", _page_script)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = self._access.refusal(request.path, request.headers, request.cookies, request.query)
        if refusal is not None:
            raise web.HTTPForbidden(text=f"{refusal}\n")
        return await handler(request)

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """The page. It comes with the cookie instead of after a redirect, which would not send a strict one yet."""
        page = web.FileResponse(FILES / "page.html")
        page.set_cookie(self._access.cookie, self._access.token, httponly=True, samesite="Strict")
        return page

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """One app for as long as the page is there."""
        socket = web.WebSocketResponse(heartbeat=15)
        await socket.prepare(request)
        page = PageProcess(
            self.command,
            write_bytes=socket.send_bytes,
            write_str=socket.send_str,
            close=socket.close,  # type: ignore[arg-type]
            download_manager=self.download_manager,
        )
        self._pages.add(page)
        try:
            await page.start(*(int(request.query.get(name, least)) for name, least in (("width", 80), ("height", 24))))
            await self._process_messages(socket, page)
        finally:
            await page.stop()
            self._pages.discard(page)
        return socket

    async def on_startup(self, app: web.Application) -> None:
        """Says nothing: the command does."""

    async def on_shutdown(self, app: web.Application) -> None:
        """Every app leaves, and its page is told."""
        await asyncio.gather(*(page.stop() for page in self._pages))


def _settle(asked: "asyncio.Future[int]", number: int) -> None:
    if not asked.done():
        asked.set_result(number)


async def _protect(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


async def _page_script(_: web.Request) -> web.FileResponse:
    return web.FileResponse(FILES / "page.js")
