"""A real JupyterLab and a real Chromium for the tests of widgets; the page can reach nothing but this machine."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import nbformat

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--no-first-run"]


def is_local(url: str) -> bool:
    """Whether an address leads to this machine, or nowhere (data, blob, about)."""
    parts = urlparse(url)
    return parts.scheme in ("data", "blob", "about") or parts.hostname in ("localhost", "127.0.0.1", "::1")


class Server:
    """JupyterLab (or Voilà) on a folder, until it is stopped."""

    def __init__(self, folder, *, command=("-m", "jupyterlab")):
        self.folder, self.token = Path(folder), secrets.token_hex(8)
        self.runtime = self.folder / ".runtime"
        self.runtime.mkdir(parents=True, exist_ok=True)
        settings = self.folder / ".settings/@jupyterlab/apputils-extension"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')  # ask nobody about it
        environment = {
            **os.environ, "JUPYTER_RUNTIME_DIR": str(self.runtime), "JUPYTER_CONFIG_DIR": str(self.folder / ".config"),
            "JUPYTER_DATA_DIR": str(self.folder / ".data"), "JUPYTERLAB_SETTINGS_DIR": str(self.folder / ".settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.folder / ".workspaces"), "IPYTHONDIR": str(self.folder / ".ipython"),
        }
        options = ["--no-browser", "--allow-root", "--port=0", f"--IdentityProvider.token={self.token}",
                   "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                   "--LabApp.extension_manager=readonly", f"--ServerApp.root_dir={self.folder}"]
        self.log = open(self.folder / ".server.log", "w+")  # noqa: SIM115 (open as long as the server runs)
        self.process = subprocess.Popen([sys.executable, *command, *options], cwd=self.folder, env=environment,
                                        stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = re.search(r"http://(?:localhost|127\.0\.0\.1):(\d+)/", Path(self.log.name).read_text())
            if found:
                self.url = f"http://127.0.0.1:{found[1]}"
                return
            assert self.process.poll() is None, Path(self.log.name).read_text()
            time.sleep(0.1)
        raise AssertionError("JupyterLab did not start:\n" + Path(self.log.name).read_text())

    def kernels(self) -> list[dict]:
        """The kernels that run, as the server tells them."""
        with urllib.request.urlopen(f"{self.url}/api/kernels?token={self.token}") as answer:
            return json.load(answer)

    def ask(self, code: str, first: str = ""):
        """What a Python expression gives in the kernel (after some statements), asked by a second client, as JSON."""
        from jupyter_client import BlockingKernelClient

        client = BlockingKernelClient(connection_file=str(self.runtime / f"kernel-{self.kernels()[0]['id']}.json"))
        client.load_connection_file()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=30)
            answer = client.execute_interactive(first, user_expressions={"it": f"__import__('json').dumps({code})"},
                                                timeout=60, output_hook=lambda _: None)
            found = answer["content"]["user_expressions"]["it"]
            assert found["status"] == "ok", found
            text = found["data"]["text/plain"]
            return json.loads(__import__("ast").literal_eval(text))
        finally:
            client.stop_channels()

    def kernel_processes(self) -> list[int]:
        """Process numbers of its kernels."""
        return processes("ipykernel", str(self.runtime))

    def stop(self) -> None:
        """End the server and its kernels."""
        for process in self.kernel_processes():
            os.kill(process, signal.SIGKILL)
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


def processes(*words: str) -> list[int]:
    """Numbers of the processes whose command lines hold all of these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if all(word in line for word in words):
            found.append(int(path.parent.name))
    return found


def write_notebook(path, *cells: str) -> None:
    """A notebook of code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


def open_page(browser, outside: list):
    """A page whose requests to anything but this machine are stopped and noted in `outside`."""
    context = browser.new_context(viewport={"width": 1500, "height": 1150})
    context.route("**/*", lambda route: route.continue_() if is_local(route.request.url) else
                  (outside.append(route.request.url), route.abort()))
    return context.new_page()


def open_notebook(page, server, name: str, *, run=True) -> None:
    """Open a notebook in JupyterLab, and run all of its cells."""
    page.goto(f"{server.url}/lab/tree/{name}?token={server.token}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=60_000)
    if run:
        run_all(page)


def answer_dialog(page) -> bool:
    """Say yes to what JupyterLab may ask, such as whether to take the kernel that was named; gives whether it asked."""
    accept = page.locator(".jp-Dialog .jp-mod-accept")
    if not accept.count():
        return False
    print("JupyterLab asked:", page.locator(".jp-Dialog").first.inner_text())
    accept.first.click()
    page.wait_for_timeout(300)
    return True


def run_all(page) -> None:
    """Run all cells; asked again where JupyterLab, not yet connected to the kernel, drops it or asks something."""
    from playwright.sync_api import TimeoutError as Late

    for _ in range(10):
        answer_dialog(page)
        try:
            page.get_by_role("menuitem", name="Run", exact=True).click(timeout=5000)
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click(timeout=5000)
        except Late:
            continue
        page.wait_for_timeout(500)
        if page.locator(".jp-Notebook .jp-Cell.jp-CodeCell .jp-InputPrompt").first.inner_text().strip() != "[ ]:":
            return
    raise AssertionError("the notebook did not run")
