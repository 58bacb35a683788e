"""What the gRPC port shows its clients, and whom it lets in (docs/spec/grpc.md 7.3, rule P15)."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import grpc

from volumed.grpc import texts
from volumed.security.followed import refresh_interval_s, retry_interval_s
from volumed.security.grpc_tls import FollowedSecrets, GrpcSecrets
from volumed.security.settings import GrpcIdentity

__all__ = ["CommonNames", "add_port"]

_log = logging.getLogger(__name__)

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def add_port(server: grpc.Server, address: str, secrets: FollowedSecrets | None) -> int:
    """Listen in plain text, or, with secrets, with TLS and certificates that are read again from time to time. Returns
    the port; raises `RuntimeError` when that is impossible."""
    if secrets is None:
        return server.add_insecure_port(address)
    _follow_in_thread(secrets, refresh_interval_s(os.environ))
    return server.add_secure_port(address, _credentials(secrets))


def _credentials(secrets: FollowedSecrets) -> grpc.ServerCredentials:
    """Mutual TLS: a client without a certificate of the authority fails at the handshake. Each handshake sees the
    files as they were last read."""
    shown = secrets.current

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        if secrets.current is shown:
            return None
        shown = secrets.current
        return _configuration(shown)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(shown),
        renewed,  # type: ignore[arg-type]  # the stubs do not know that None means no change
        require_client_authentication=True,
    )


def _configuration(secrets: GrpcSecrets) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(secrets.key, secrets.cert)], secrets.authority)


def _follow_in_thread(secrets: FollowedSecrets, interval_s: float) -> None:
    """Refresh for ever, aside."""

    def follow() -> None:
        pause = threading.Event()
        wait_s = interval_s
        while not pause.wait(wait_s):
            wait_s = interval_s if secrets.refresh() else retry_interval_s(interval_s)

    threading.Thread(target=follow, name="certificates", daemon=True).start()


class CommonNames(grpc.ServerInterceptor):
    """Lets in clients whose certificates have one of these common names.

    DEVIATE: the reference ends the handshake of others. The library cannot; here each of their calls ends with
    UNAUTHENTICATED before anything else."""

    def __init__(self, identity: GrpcIdentity) -> None:
        self._names = frozenset(identity.allowed_common_names)
        self._suffix = identity.allowed_wildcard_domain

    @classmethod
    def of(cls, identity: GrpcIdentity) -> list[CommonNames]:
        """None at all when every client of the authority may come."""
        return [cls(identity)] if identity.allowed_common_names or identity.allowed_wildcard_domain else []

    def allows(self, name: str) -> bool:
        """Whether the name is in the list or ends with the suffix."""
        return name in self._names or bool(self._suffix and name.endswith(self._suffix))

    def intercept_service(self, continuation: Callable[..., Any], handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of the call, behind the check."""
        handler = continuation(handler_call_details)
        return handler._replace(
            **{kind: self._checked(getattr(handler, kind)) for kind in _KINDS if getattr(handler, kind) is not None}
        )

    def _checked(self, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        def check(request: Any, context: grpc.ServicerContext) -> Any:
            name = _common_name(context)
            if not self.allows(name):
                _log.warning("%s: %s", context.peer(), texts.invalid_common_name(name))
                context.abort(grpc.StatusCode.UNAUTHENTICATED, texts.invalid_common_name(name))
            return behaviour(request, context)

        return check


def _common_name(context: grpc.ServicerContext) -> str:
    values: Any = context.auth_context().get("x509_common_name", ())
    return b"".join(values).decode(errors="replace")
