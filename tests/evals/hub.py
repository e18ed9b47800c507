"""A model hub on this machine: enough of its protocol for `datasets` to fetch a data set at one commit."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for the data sets of its server: {name: (commit, {path: content})}. Other commits are not found."""

    def log_message(self, *_: object) -> None:
        pass

    def send(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def missing(self, code: str) -> None:
        self.send(404, b'{"error": "not found"}', X_Error_Code=code, Content_Type="application/json")

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.seen.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        for name, (commit, files) in self.server.data.items():  # type: ignore[attr-defined]
            for start in (f"/api/datasets/{name}", f"/datasets/{name}"):
                if path == start or path.startswith(start + "/"):
                    self.repository(name, commit, files, path.removeprefix(start).strip("/"), body)
                    return
        self.missing("RepoNotFound")

    do_GET = do_HEAD = do_POST = answer

    def repository(self, name: str, commit: str, files: Mapping[str, bytes], rest: str, body: bytes) -> None:
        kind, _, rest = rest.partition("/")
        revision, _, inner = rest.partition("/")
        if kind and revision != commit:
            self.missing("RevisionNotFound")
        elif kind in ("", "revision"):
            siblings = [{"rfilename": path} for path in files]
            self.json({"id": name, "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0})
        elif kind == "tree":
            recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
            self.json(listing(files, f"{inner}/" if inner else "", recursive))
        elif kind == "paths-info":
            try:
                wanted = json.loads(body)["paths"]
            except ValueError:
                wanted = parse_qs(body.decode())["paths"]
            self.json([entry(path, files[path]) for path in wanted if path in files])
        elif kind == "resolve" and inner in files:
            tag = hashlib.sha1(files[inner]).hexdigest()
            self.send(200, files[inner], ETag=f'"{tag}"', X_Repo_Commit=commit)
        else:
            self.missing("EntryNotFound")

    def json(self, value: object) -> None:
        self.send(200, json.dumps(value).encode(), Content_Type="application/json")


def listing(files: Mapping[str, bytes], folder: str, recursive: bool) -> list[dict[str, object]]:
    """The files and folders in a folder, and with `recursive` all below it."""
    inside = [path for path in files if path.startswith(folder)]
    tops = {str(parent) for path in inside for parent in PurePosixPath(path).parents}
    folders = sorted(top for top in tops if top != "." and top.startswith(folder))
    found = [{"type": "directory", "path": top, "size": 0, "oid": "0" * 40} for top in folders]
    found += [entry(path, files[path]) for path in inside]
    return [row for row in found if recursive or "/" not in str(row["path"]).removeprefix(folder)]


def entry(path: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@contextlib.contextmanager
def serve(data: Mapping[str, tuple[str, Mapping[str, bytes]]]) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub with the given data sets, and the requests it has seen."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.data, server.seen = data, []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.seen  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
