"""Who may use the pages: those who have the token, from a page of this very server."""

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from launcher.errors import InvalidInputError

VARIABLE = "SIMPLETUNER_SERVE_TOKEN"
"""Holds a token that was chosen. No option does: every user of a machine sees the command lines of all."""
PAGE, SOCKET = "/", "/ws"
SHORTEST = 16


def token_from(environment: Mapping[str, str]) -> str:
    """The token that was chosen, else a new one of 256 bits.

    Raises:
        InvalidInputError: one that is easy to guess, or that a URL and a cookie would not carry.
    """
    chosen = environment.get(VARIABLE)
    if chosen is None:
        return secrets.token_urlsafe()
    if not re.fullmatch(rf"[A-Za-z0-9._~-]{{{SHORTEST},}}", chosen):
        raise InvalidInputError(
            f"{VARIABLE}: at least {SHORTEST} letters, digits or any of . _ ~ - are needed; left out, a token is made"
        )
    return chosen


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what listens there.

    Args:
        host: an address or a name.

    Raises:
        InvalidInputError: nothing has this name.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise InvalidInputError(f"--host {host}: no address of this machine has this name") from None
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


@dataclass(frozen=True, slots=True)
class Access:
    """The token of one server, and the names that it goes by."""

    token: str
    names: frozenset[str] = field(default_factory=frozenset)
    """Beside addresses and localhost, in small letters."""

    @property
    def cookie(self) -> str:
        """Name of the cookie. Cookies do not tell ports apart, so two servers need two names."""
        return f"simpletuner-tui-{hashlib.sha256(self.token.encode()).hexdigest()[:8]}"

    def refusal(
        self, path: str, headers: Mapping[str, str], cookies: Mapping[str, str], query: Mapping[str, str]
    ) -> str | None:
        """Why a request is not answered; None where it is.

        Args:
            path: of the request.
            headers: with ``Host``, and ``Origin`` where a browser says which page asks.
            cookies: by name.
            query: only the page itself takes the token from it, and gives the cookie for it.
        """
        host = headers.get("Host", "")
        if not self._known(host):
            return "This server does not go by this name."  # a name that was made to point here: DNS rebinding
        origin = headers.get("Origin")
        if origin is None and path == SOCKET:
            return "A page of this server is needed: every browser says which page opens a websocket."
        if origin is not None and _place(origin) != host.lower():
            return "Another page may not ask for this."
        offered = [cookies.get(self.cookie), query.get("token") if path == PAGE else None]
        if not any(self._is_token(each) for each in offered if each is not None):
            return "The token is missing: open the address that `simpletuner-tui serve` printed."
        return None

    def _is_token(self, offered: str) -> bool:
        return hmac.compare_digest(offered.encode(errors="replace"), self.token.encode())

    def _known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # nobody can make an address point elsewhere


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
