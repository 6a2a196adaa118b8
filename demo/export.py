"""The stamps as class folders: `python -m demo.export FOLDER`. See `benchmarks.data.stamps`."""

from benchmarks.data.stamps import main

if __name__ == "__main__":
    main()
