"""Real file servers for tests: HTTP with byte ranges, which can be told to fail, and XRootD."""

import contextlib
import re
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Flaky(BaseHTTPRequestHandler):
    """Serves the files of a folder by ranges; each of `faults` spoils one answer: a status, or 'cut' in the middle."""

    protocol_version = "HTTP/1.1"
    folder = Path()
    faults: list = []  # noqa: RUF012

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        fault = self.faults.pop(0) if self.faults and body else None
        path = self.folder / self.path.lstrip("/")
        if isinstance(fault, int) or not path.is_file():
            self.send_response(fault or 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        size = len(content)
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (int(match[1]), int(match[2] or size - 1)) if match else (0, size - 1)
        piece = content[first : min(last, size - 1) + 1]
        self.send_response(206 if match else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(piece)))
        if match:
            self.send_header("Content-Range", f"bytes {first}-{first + len(piece) - 1}/{size}")
        self.end_headers()
        if body:
            self.wfile.write(piece[: len(piece) // 2] if fault == "cut" else piece)
        self.close_connection = fault == "cut"

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def http(folder):
    """URL of a folder, and the list of faults to come."""
    handler = type("Handler", (Flaky,), {"folder": folder, "faults": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def xrootd(folder):
    """URL of a folder on an XRootD server of its own, or None where none is installed."""
    program = shutil.which("xrootd")
    if program is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    admin = folder / "xrootd"
    admin.mkdir()
    settings = admin / "xrootd.cfg"
    settings.write_text(f"all.export {folder}\nxrd.port {port}\nall.adminpath {admin}\nall.pidpath {admin}\n")
    for path in (*folder.rglob("*"), folder, *folder.parents):
        with contextlib.suppress(PermissionError):
            path.chmod(path.stat().st_mode | (0o777 if path in (folder, admin) else 0o055))
    command = [program, "-c", str(settings), "-l", str(admin / "log")]
    as_root = ["-R", "nobody"] if Path("/proc/self").stat().st_uid == 0 else []
    server = subprocess.Popen([*command, *as_root], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"root://localhost:{port}/{folder}"
    finally:
        server.terminate()
        server.wait()
