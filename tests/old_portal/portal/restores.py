"""What a restore pushes to a device."""

from . import git_store


def export_of(tenant: str, device: str, sha: str) -> str:
    """The export of a version.

    Raises:
        ValueError: the portal's own way to say that there is no such version.
    """
    try:
        return git_store.read_file(tenant, sha, device, "export.rsc").decode()
    except KeyError as error:
        raise ValueError(f"no version {sha}") from error
