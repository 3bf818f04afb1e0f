"""``python -m medgan`` is ``medgan``."""

from medgan.cli import main

if __name__ == "__main__":
    main()
