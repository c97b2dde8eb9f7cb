"""A real browser without a window."""
import shutil
from contextlib import contextmanager

import pytest

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
#: What a page must answer about itself.
LOOK = '''() => ({
    width: document.documentElement.scrollWidth,
    pictures: document.images.length,
    broken: [...document.images].filter(
        i => !i.complete || !i.naturalWidth).length,
    drawings: [...document.querySelectorAll('svg')].filter(
        s => s.getBoundingClientRect().height > 50).length,
    ink: getComputedStyle(document.body).color,
    inside: [...document.querySelectorAll('svg text')].every(t => {
        const own = t.getBoundingClientRect();
        const all = t.ownerSVGElement.getBoundingClientRect();
        return own.left >= all.left - 2 && own.right <= all.right + 2;
    }),
})'''


@contextmanager
def open_browser():
    """Start the system's chromium, or skip the test.

    Yields:
        Browser: Of playwright.
    """
    sync_api = pytest.importorskip('playwright.sync_api')
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f'there is no browser: none of {", ".join(NAMES)}')
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=['--no-sandbox'])
        try:
            yield browser
        finally:
            browser.close()


def look_at(browser, file, width, scheme='light', picture=None):
    """Open a page and ask it.

    Args:
        browser (Browser): See :func:`open_browser`.
        file (Path): HTML file.
        width (int): Width of the window in pixels.
        scheme (str): 'light' or 'dark'.
        picture (Path, optional): Where a picture of the page goes.

    Returns:
        dict: See ``LOOK``, with ``errors`` (of the console, and requests
        that left the page).
    """
    page = browser.new_page(
        viewport=dict(width=width, height=900), color_scheme=scheme)
    errors = []
    page.on('console', lambda message: errors.append(message.text))
    page.on('pageerror', lambda error: errors.append(str(error)))
    page.on(
        'request', lambda request: request.url.startswith('http') and errors.
        append(request.url))
    page.goto(file.as_uri())
    out = dict(page.evaluate(LOOK), errors=errors)
    if picture is not None:
        page.screenshot(path=picture, full_page=True)
    page.close()
    return out
