"""Without JavaScript everything works: signing in, filtering, paging, comparing, searching, signing out."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.http.browser.conftest import Enter
from tests.http.browser.site import LONG, MANY, Site


def test_from_signing_in_to_signing_out(enter: Enter, site: Site) -> None:
    page = enter(None, java_script_enabled=False).new_page()
    large, core1 = f"/tenants/{site.large}", site.device()
    page.goto(large)
    page.get_by_label("Token").fill(site.tokens["full"])
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(site.address + large)

    rows = page.locator("#devices tbody tr")
    expect(page.get_by_role("status")).to_have_text(f"{MANY} devices, 1 to 250 shown")
    page.get_by_role("link", name="Next").click()
    expect(rows).to_have_count(MANY - 250)
    page.get_by_role("link", name="Address").click()
    page.get_by_label("Device", exact=True).fill("r25")
    page.get_by_role("button", name="Show").click()
    expect(rows).to_have_count(10)
    expect(rows.first).to_contain_text("10.9.0.25")
    page.get_by_role("link", name="Address").click()
    expect(rows.first).to_contain_text("10.9.0.259")

    page.goto(site.device(site.long))
    versions = page.locator(".versions > li")
    expect(versions).to_have_count(100)
    page.get_by_role("link", name="Older versions").click()
    expect(versions).to_have_count(LONG - 100)

    page.goto(core1)
    expect(versions).to_have_count(4)
    page.get_by_role("link", name="All versions").click()
    expect(versions).to_have_count(5)
    page.locator("input[name=from]").nth(4).check()
    page.locator("input[name=to]").nth(2).check()
    page.get_by_role("button", name="Compare the two chosen versions").click()
    expect(page.locator("h1")).to_have_text("core1, two versions")
    page.get_by_role("link", name="Side by side").click()
    page.get_by_role("link", name="Wrapped lines joined").click()
    page.get_by_role("link", name="With header lines").click()
    page.get_by_role("link", name="All", exact=True).click()
    expect(page.locator(".split")).to_have_count(1)
    expect(page.locator(".split")).to_contain_text("2026-10-03 04:00:00 by RouterOS")
    expect(page.locator(".split")).to_contain_text("protocol=tcp src-address=10.0.0.0/24")

    page.goto(core1)
    page.get_by_label("As of").fill("2026-10-02 12:00")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(f"/versions/{site.shas[1]}$"))
    page.get_by_role("link", name="Since when").click()
    expect(page.locator("tr", has_text="Tr0ub4dor-and-3-changed")).to_contain_text("2026-10-02")

    page.goto(core1)
    page.get_by_label("Compare with device").fill("edge1")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("h1")).to_have_text("edge1 and core1")

    page.get_by_label("Search the newest exports").fill("10.0.0.119")
    page.get_by_role("button", name="Search").first.click()
    expect(page.get_by_role("status")).to_have_text("1 device")
    page.locator("main .text a").first.click()
    expect(page).to_have_url(re.compile(r"/versions/latest#L2$"))
    expect(page.locator("#L2")).to_contain_text("10.0.0.119")

    page.get_by_role("button", name="Sign out").click()
    page.goto(core1)
    expect(page).to_have_url(re.compile("/sign-in"))
