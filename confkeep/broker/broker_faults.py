"""What an error of Redis, of TLS or of the login means, and the next step."""

from __future__ import annotations

import ssl
from typing import Final

import redis
from kombu.exceptions import OperationalError

from confkeep.errors import BrokerUnavailable, NotPermitted, OddValue
from confkeep.observe.log_scrub import chain_of

#: What redis-py puts between the command and the error.
_QUOTED: Final = "of pipeline caused error: "

#: The server's error code -> why it refuses, and what to do.
_REFUSALS: Final = {
    "READONLY": "it is a replica and takes no writes; wait for the failover, or name the primary in "
    "CONFKEEP_REDIS_URL",
    "MASTERDOWN": "it is a replica that has lost its primary; bring that back, or name another server in "
    "CONFKEEP_REDIS_URL",
    "MISCONF": "it cannot write to its disk and takes no writes; its log says why",
    "NOREPLICAS": "it has fewer replicas than min-replicas-to-write; bring them back, or lower that",
    "OOM": "its memory is full; raise maxmemory",
    "LOADING": "it loads its data; it answers when it has done so",
    "BUSY": "a script keeps it busy; wait, or end that with SCRIPT KILL",
    "CLUSTERDOWN": "its cluster is down; bring the missing nodes back",
    "DENIED": "it runs in protected mode, which lets in only its own machine; give it a password and "
    "put that into CONFKEEP_REDIS_URL",
}
#: What to do once the server is in order.
_THEN: Final = (
    "Once that is put right, repeat the call: the same backup_id is never committed twice."
)
_MAX_CLIENTS: Final = "max number of clients reached"
#: A script's command that its user may not run; the server's code for it is but ERR.
_DENIED_IN_SCRIPT: Final = "ACL failure in script"

#: OpenSSL's codes of certificates that it does not accept -> what is wrong, and what to do.
_CERTIFICATES: Final = {
    **dict.fromkeys(
        (18, 19, 20, 21),
        "no CA that is known here signed the server's certificate; name the file of its CA in "
        "CONFKEEP_REDIS_URL (?ssl_ca_certs=FILE)",
    ),
    **dict.fromkeys(
        (62, 64),
        "the server's certificate is for another name; use a name that stands in it in "
        "CONFKEEP_REDIS_URL",
    ),
    10: "the server's certificate has expired; renew it",
}

#: Parts of what OpenSSL says where the server ends the handshake.
_CLIENT_REFUSED: Final = ("ALERT", "HANDSHAKE_FAILURE", "EOF")


def explain(error: BaseException) -> BrokerUnavailable:
    """The error of ours that says what `error` means, without what it may quote."""
    found = list(chain_of(error))[::-1]
    for cause in found:
        if isinstance(cause, BrokerUnavailable):
            return cause
        if isinstance(cause, ssl.SSLError):
            return BrokerUnavailable(f"TLS with Redis failed: {_tls_problem(cause)}", hint=_THEN)
    # Kombu raises errors of its own from those of redis-py.
    told = next((one for one in found if isinstance(one, redis.RedisError)), error)
    text = _said(told)
    if _MAX_CLIENTS in text:
        return BrokerUnavailable(
            f"Redis refused the connection ({_MAX_CLIENTS}); end some, or raise maxclients",
            hint=_THEN,
        )
    if isinstance(told, redis.exceptions.AuthenticationError):
        return NotPermitted(_login_problem(told))
    if _is_denied(told):
        return NotPermitted("Redis does not allow this to its user (NOPERM)")
    if isinstance(told, redis.exceptions.InvalidResponse):
        return BrokerUnavailable(
            "what answers does not speak Redis' protocol; does the port want TLS (rediss://)?",
            hint="Correct the address in CONFKEEP_REDIS_URL.",
        )
    code = _code_of(told)
    if code == "WRONGTYPE":
        return OddValue("a key of confkeep's in Redis is of another type")
    if isinstance(told, redis.ResponseError) or code in _REFUSALS:
        why = f": {_REFUSALS[code]}" if code in _REFUSALS else ""
        return BrokerUnavailable(
            f"Redis refused the command ({code}){why}", hint=_THEN if why else None
        )
    missing = next((one for one in found if isinstance(one, FileNotFoundError)), None)
    if missing is not None:
        return BrokerUnavailable(
            f"Redis cannot be reached ({missing.strerror}): CONFKEEP_REDIS_URL names a socket, or a "
            "certificate, that is not there"
        )
    said = [one.strerror for one in found if isinstance(one, OSError) and one.strerror]
    why = said[0] if said else type(told).__name__
    return BrokerUnavailable(f"Redis did not answer ({why})")


def is_outage(error: BaseException) -> bool:
    """Whether the server is away, or refuses whatever is asked of it: the next command fares no better."""
    # EXECABORT: a command within a transaction was refused before.
    if _is_denied(error) or isinstance(error, redis.exceptions.ExecAbortError):
        return True
    if isinstance(error, redis.ResponseError):
        return _code_of(error) in _REFUSALS
    if isinstance(error, BrokerUnavailable):
        return not isinstance(error, OddValue)
    return isinstance(error, redis.ConnectionError | redis.TimeoutError | OperationalError)


def _is_denied(error: BaseException) -> bool:
    return isinstance(error, redis.exceptions.NoPermissionError) or _DENIED_IN_SCRIPT in _said(
        error
    )


def strip_command(error: redis.ResponseError) -> None:
    """Leave of an error what the server said: for a pipeline redis-py quotes the command too, and that
    may hold a payload, which a traceback would show."""
    error.args = (_said(error),)


def _said(error: BaseException) -> str:
    """The error's text without the command that redis-py quotes in front of a pipeline's."""
    return str(error).rpartition(_QUOTED)[2]


def _code_of(error: BaseException) -> str:
    """The server's error code, which quotes nothing: redis-py takes those that it knows off the text."""
    return getattr(error, "status_code", None) or _said(error).split(" ", 1)[0][:40].strip("-:")


def _login_problem(error: redis.exceptions.AuthenticationError) -> str:
    if getattr(error, "status_code", None) == "NOAUTH":
        return (
            "Redis refuses who names no user (NOAUTH): put a name and password into "
            "CONFKEEP_REDIS_URL (redis://NAME:PASSWORD@HOST)"
        )
    if "without any password configured" in str(error):
        return (
            "Redis refuses the password: its default user has none; take it out of "
            "CONFKEEP_REDIS_URL, or name another user there"
        )
    return "Redis refuses the user's name or password (WRONGPASS)"


def _tls_problem(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = _CERTIFICATES.get(error.verify_code)
        return problem or f"the server's certificate is refused ({error.verify_message})"
    reason = error.reason or type(error).__name__
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL"):
        return "the port does not speak TLS; use redis://, or the server's TLS port"
    if isinstance(error, ssl.SSLEOFError) or any(said in reason for said in _CLIENT_REFUSED):
        return (
            f"the server refuses this client ({reason}); it may want a certificate, whose files "
            "CONFKEEP_REDIS_URL names (?ssl_certfile=FILE&ssl_keyfile=FILE)"
        )
    return f"{reason}"
