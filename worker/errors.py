"""The errors of `worker.git_store`, under the name that its callers know: `confkeep.errors`."""

from confkeep.errors import *  # noqa: F403
