"""A double of the Hub on 127.0.0.1: the part of its API that `datasets.load_dataset` reads through
HF_ENDPOINT, strict in what the real one is strict in.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

README = "README.md"
LFS_BYTES = 9_000


@dataclass(frozen=True)
class Repository:
    """A dataset's files by their paths; token: what alone opens a gated one."""

    files: Mapping[str, bytes]
    token: str | None = None

    @property
    def commit(self) -> str:
        """What the Hub calls the files as they are: 40 hexadecimal digits."""
        parts = [f"{path}\0{_oid(data)}" for path, data in sorted(self.files.items())]
        return hashlib.sha1("\n".join(parts).encode()).hexdigest()

    def entry(self, path: str) -> dict[str, Any] | None:
        """What /tree and /paths-info say of a path; None where there is nothing."""
        if (data := self.files.get(path)) is not None:
            return {"type": "file", "oid": _oid(data), "size": len(data), "path": path}
        if any(name.startswith(f"{path}/") for name in self.files):
            return {"type": "directory", "oid": _oid(path.encode()), "size": 0, "path": path}
        return None

    def below(self, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
        """The entries of a folder ('' is the top), its folders before its files."""
        prefix = f"{folder}/" if folder else ""
        paths: set[str] = set()
        for name in self.files:
            if name.startswith(prefix):
                parts = name.removeprefix(prefix).split("/")
                ends = range(1, len(parts) + 1) if recursive else (1,)
                paths.update(prefix + "/".join(parts[:end]) for end in ends)
        return [entry for path in sorted(paths) if (entry := self.entry(path))]


@dataclass(eq=False)
class Hub:
    """The server; repositories may be added while it runs.

        with Hub({"owner/name": Repository({"train.jsonl": b"…"})}) as hub:
            env = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": …}

    calls holds 'METHOD /path' of what came in. fails: a status that answers everything.
    failing_commits: how many commits are refused. created: names, and whether they are private.
    uploaded: LFS objects.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    fails: int | None = None
    failing_commits: int = 0
    created: dict[str, bool] = field(default_factory=dict)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        hub = self

        class Handler(_Handler):
            def setup(self) -> None:
                self.hub = hub
                super().setup()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self) -> str:
        """What HF_ENDPOINT has to be."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def env(self, home: Path, **more: str) -> dict[str, str]:
        """The environment of a command that shall use this Hub, and keep what it loads in home."""
        return {
            "HF_ENDPOINT": self.address,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(home),
            **more,
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"")

    def do_PUT(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, sent: bytes) -> None:
        url = urlsplit(self.path)
        self.hub.calls.append(f"{self.command} {url.path}")
        if self.hub.fails is not None:
            return self._send(self.hub.fails, b"out of order")
        match unquote(url.path).strip("/").split("/"):
            case ["api", "validate-yaml"]:
                self._json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                self._create(json.loads(sent))
            case ["api", "datasets", owner, name, "preupload", _]:
                self._json({"files": self._modes(f"{owner}/{name}", json.loads(sent)["files"])})
            case ["api", "datasets", owner, name, "commit", _]:
                self._commit(f"{owner}/{name}", sent)
            case ["datasets", owner, name, "info", "lfs", "objects", "batch"]:
                self._json({"objects": self._lfs(json.loads(sent)["objects"])})
            case ["lfs", oid]:
                self.hub.uploaded[oid] = sent
                self._send(200, b"")
            case ["datasets", owner, name, "resolve", revision, *path]:
                if repository := self._find(f"{owner}/{name}", revision, gate=True):
                    self._resolve(repository, "/".join(path))
            case ["api", "datasets", owner, name, *rest]:
                revision = rest[1] if len(rest) > 1 else "main"
                asks_info = rest[:1] in ([], ["revision"])
                if repository := self._find(f"{owner}/{name}", revision, gate=not asks_info):
                    self._api(repository, f"{owner}/{name}", rest, parse_qs(url.query), sent)
            case _:
                self._refuse(404, None, "Not Found")
        return None

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        exists = name in self.hub.repositories
        if not exists:
            self.hub.repositories[name] = Repository({})
            self.hub.created[name] = asked.get("visibility") == "private"
        url = json.dumps({"url": f"{self.hub.address}/datasets/{name}"}).encode()
        self._send(409 if exists else 200, url, {"Content-Type": "application/json"})

    def _modes(self, name: str, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Files of more than LFS_BYTES are uploaded as LFS objects."""
        held = self.hub.repositories[name].files
        return [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["size"] > LFS_BYTES else "regular",
                "shouldIgnore": False,
                "oid": _oid(held[file["path"]]) if file["path"] in held else None,
            }
            for file in files
        ]

    def _lfs(self, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Where to upload what is not there yet."""
        for one in objects:
            if one["oid"] not in self.hub.uploaded:
                one["actions"] = {"upload": {"href": f"{self.hub.address}/lfs/{one['oid']}"}}
        return objects

    def _commit(self, name: str, sent: bytes) -> None:
        if self.hub.failing_commits:
            self.hub.failing_commits -= 1
            return self._send(403, b"no commit now")
        files = dict(self.hub.repositories[name].files)
        for line in sent.splitlines():
            match json.loads(line):
                case {"key": "file", "value": value}:
                    files[value["path"]] = base64.b64decode(value["content"])
                case {"key": "lfsFile", "value": value}:
                    files[value["path"]] = self.hub.uploaded[value["oid"]]
        self.hub.repositories[name] = repository = Repository(files)
        address = f"{self.hub.address}/datasets/{name}/commit/{repository.commit}"
        return self._json(
            {"commitUrl": address, "commitOid": repository.commit, "commitMessage": ""}
        )

    def _find(self, name: str, revision: str, *, gate: bool) -> Repository | None:
        """A repository; None where it was refused, 401 to strangers as for a private one."""
        repository = self.hub.repositories.get(name)
        if repository is None:
            known = "Authorization" in self.headers
            self._refuse(404 if known else 401, "RepoNotFound", "Repository not found")
            return None
        allowed = (None, f"Bearer {repository.token}")
        if gate and repository.token and self.headers.get("Authorization") not in allowed[1:]:
            self._refuse(403, "GatedRepo", f"Access to dataset {name} is restricted")
            return None
        if revision not in ("main", repository.commit):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository

    def _resolve(self, repository: Repository, path: str) -> None:
        data = repository.files.get(path)
        commit = {"X-Repo-Commit": repository.commit}
        if data is None:
            return self._refuse(404, "EntryNotFound", "Entry not found", commit)
        return self._send(200, data, {**commit, "ETag": f'"{_oid(data)}"', "Accept-Ranges": "none"})

    def _api(
        self,
        repository: Repository,
        name: str,
        rest: list[str],
        query: dict[str, list[str]],
        sent: bytes,
    ) -> None:
        match rest:
            case [] | ["revision", _]:
                return self._json(
                    {
                        "id": name,
                        "sha": repository.commit,
                        "private": False,
                        "gated": "auto" if repository.token else False,
                        "siblings": [{"rfilename": path} for path in sorted(repository.files)],
                    }
                )
            case ["tree", _, *folder]:
                path = "/".join(folder)
                if path and (repository.entry(path) or {}).get("type") != "directory":
                    return self._refuse(404, "EntryNotFound", f"{path} does not exist")
                recursive = query.get("recursive", ["False"])[0].lower() in ("1", "true")
                return self._json(repository.below(path, recursive=recursive))
            case ["paths-info", _]:
                asked = self._paths(sent)
                return self._json([entry for path in asked if (entry := repository.entry(path))])
            case _:
                return self._refuse(404, None, "Not Found")

    def _paths(self, sent: bytes) -> list[str]:
        if self.headers.get_content_type() == "application/json":
            return list(json.loads(sent)["paths"])
        return parse_qs(sent.decode())["paths"]

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(
        self, status: int, code: str | None, message: str, more: Mapping[str, str] | None = None
    ) -> None:
        headers = {"X-Error-Message": message, **(more or {})}
        if code is not None:
            headers["X-Error-Code"] = code
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
