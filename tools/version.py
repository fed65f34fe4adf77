"""Print the version of setup.cfg."""

import configparser
from pathlib import Path

if __name__ == "__main__":
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
    print(settings["metadata"]["version"])
