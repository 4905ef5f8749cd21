"""Draw the pictures of the page for the README, in a real browser: python scripts/page_pictures.py RUN CUSTOMER.

Needs Chromium, and Playwright of amzrec[dev].
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
COLOURS = 96  # of a picture: the page has few
LIGHT = {"viewport": {"width": 1200, "height": 860}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark", "device_scale_factor": 1.5}


def main(run: str, customer: str) -> None:
    """Serve a run, look at it, and write both pictures."""
    command = [sys.executable, "-m", "amzrec", "serve", run, "--port", "0", "--events", "none", "--no-access-log"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service, sync_playwright() as driver:
        assert service.stderr is not None
        address = next(found[1] for line in service.stderr if (found := re.search(r"at (http://\S+)", line)))
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_context(**LIGHT).new_page()
        page.goto(f"{address}/#/customer/{customer}")
        page.get_by_role("button", name="Similar").first.click()
        page.wait_for_selector(".similar li")
        page.wait_for_selector(".why bdi")
        write(page, "page-light.png")
        page = browser.new_context(**PHONE).new_page()
        page.goto(f"{address}/#/model")
        page.wait_for_selector(".tiles")
        write(page, "page-phone.png")
        browser.close()
        service.terminate()


def write(page: Any, name: str) -> None:
    """Write what the window shows, with few colours."""
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(0, 0)
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / name, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
