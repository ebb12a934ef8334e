"""Read a device's history where the store cannot be reached: the workers answer.

python read_back.py TENANT DEVICE     with CONFKEEP_REDIS_URL set
"""

import sys

from confkeep import history, read_file


def main(tenant_id: str, device_id: str) -> None:
    versions = history(tenant_id, device_id, 10)
    for version in versions:
        print(version.committed_at, version.sha, version.message)
    export = read_file(tenant_id, versions[0].sha, device_id, "export.rsc")
    print(export.decode("utf-8", "replace"))


if __name__ == "__main__":
    main(*sys.argv[1:])
