"""The portal's settings, from its environment and its `.env`."""

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What the portal is told."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    SECRET_KEY: str = ""
    GIT_STORE_PATH: str = "./git-store"


def settings() -> Settings:
    """Read them."""
    return Settings()
