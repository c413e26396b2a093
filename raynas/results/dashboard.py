"""optuna-dashboard on a run: its trials as a study in memory, with our pictures attached."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import optuna

if TYPE_CHECKING:
    import plotly.graph_objects as go

HOST, PORT = "127.0.0.1", 8080


def dashboard_app(study: optuna.Study, pictures: Mapping[str, go.Figure]) -> Any:
    """Return the dashboard of a study as a WSGI application.

    Args:
        study: in memory; what is changed in the dashboard is gone when it ends.
        pictures: figures by the name under which they are attached.

    Raises:
        ModuleNotFoundError: optuna-dashboard is not installed.
    """
    dashboard = _library()
    for name, figure in pictures.items():
        dashboard.save_plotly_graph_object(study, figure, graph_object_id=name)
    return dashboard.wsgi(_storage_of(study))


def check_free(host: str, port: int) -> None:
    """Raise OSError if a server cannot listen there."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError) as error:
        raise OSError(
            f"dashboard: cannot listen on {host}, port {port} ({error}); choose another (--port)"
        ) from error


def serve(app: Any, host: str = HOST, port: int = PORT) -> None:
    """Serve until interrupted.

    Args:
        app: as ``dashboard_app`` returns it.
        host: name or address that it is bound to; the default is reached from this machine alone.
        port: of it.
    """
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of every request."""

    with make_server(host, port, app, handler_class=Quiet) as server:
        server.serve_forever()


def _library() -> Any:
    try:
        return importlib.import_module("optuna_dashboard")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the dashboard is optuna-dashboard, which is not installed: pip install "
            "'raynas[dashboard]'"
        ) from error


def _storage_of(study: optuna.Study) -> Any:
    return study._storage  # Optuna's own tools take it from there
