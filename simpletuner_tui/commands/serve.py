"""``serve``: the full-screen app in a browser."""

import asyncio
import os
import signal
import socket
import sys
from argparse import Namespace
from importlib.util import find_spec

from launcher.errors import CannotRunHereError, ExitCode, InvalidInputError
from simpletuner_tui.messages import tell
from simpletuner_tui.serving.access import Access, is_loopback, token_from

PACKAGE = "textual-serve>=1.1.3,<1.2"
"""As pyproject.toml has it in the extra ``serve``: 1.2 may come apart elsewhere."""


def serve(arguments: Namespace) -> ExitCode:
    """Serves pages until it is asked to end, each with an app of its own; the address is on stdout.

    Raises:
        InvalidInputError: others could reach it, and nobody asked for that; or the token is too easy.
        CannotRunHereError: textual-serve is not installed, or nothing can listen there.
    """
    host, port = arguments.host, arguments.port
    if find_spec("textual_serve") is None:
        raise CannotRunHereError(
            f"serve needs textual-serve, which is not installed: {sys.executable} -m pip install '{PACKAGE}'"
        )
    local = is_loopback(host)
    if not local and not arguments.allow_remote:
        raise InvalidInputError(
            f"--host {host}: others on the network could read along, as nothing is encrypted. Over SSH this machine's "
            f"own address is enough: {_tunnel(port)}. --allow-remote serves there all the same"
        )
    access = Access(token_from(os.environ), frozenset({host.lower(), socket.gethostname().lower()}))
    from simpletuner_tui.serving.server import PageServer  # noqa: PLC0415 - it brings aiohttp

    def begun(port: int) -> None:
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{port}/?token={access.token}", flush=True)  # noqa: T201
        tell("Whoever has this address can use it: it holds the token. Ctrl-C ends the pages; runs go on.")
        if not local:
            tell("warning: what is shown and typed, the token too, goes over the network as it is")
        elif "SSH_CONNECTION" in os.environ:
            tell(f"On your own computer, before you open it: {_tunnel(port)}")

    ended_by = asyncio.run(PageServer(access, host, port).run(begun))
    return ExitCode.HANGUP if ended_by == signal.SIGHUP else ExitCode.CANCELLED


def _tunnel(port: int) -> str:
    return f"ssh -N -L {port}:127.0.0.1:{port} {socket.gethostname()}"
