# Recipes for every day; `just` lists them. All of them are plain commands: nothing needs just.

# Lists the recipes.
default:
    @just --list

# Serves with data in ./everywire-data and the page at the printed address.
serve *ARGUMENTS:
    cargo run --release -- serve {{ARGUMENTS}}

# Everything, as CI runs it.
test:
    ./dev/test

# The quick part: formatting, lints, unit and black-box tests.
check:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo build -p everywire-server
    cargo nextest run --workspace

# Black-box tests whose name contains NAME.
black-box NAME="":
    cargo build -p everywire-server
    cargo nextest run -p everywire-tests {{NAME}}

# The page in a browser, and the clients of npm.
node:
    cargo build -p everywire-server
    ./dev/node

# The whole server from seeds; `just simulate 1 --seed 42` repeats one.
simulate SEEDS="500" *ARGUMENTS:
    cargo run --release -p everywire-sim -- --seeds {{SEEDS}} {{ARGUMENTS}}

# Fuzzes every target for so many seconds.
fuzz SECONDS="60":
    ./dev/fuzz {{SECONDS}}

# The long runs behind the figures: 50 kills, 2-second cuts, 100 MB for a stalled reader.
measure:
    cargo build --release -p everywire-server
    EVERYWIRE_KILLS=50 EVERYWIRE_CUT_MS=2000 EVERYWIRE_SLOW_MB=100 cargo nextest run --release -p everywire-tests --test durability --test cuts --test slow_reader --no-capture
