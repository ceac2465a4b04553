# Habits. `just` lists them; `just check` is what a change must pass, `.ci/run` is the same for a bare machine.

_list:
    @just --list --unsorted

# All that a change must pass
check: fmt clippy doc test deny

# The formatting is the formatter's
fmt:
    cargo fmt --check

# No warning, with every feature and with none
clippy:
    cargo clippy --all-targets --all-features -- -D warnings
    cargo clippy --all-targets --no-default-features -- -D warnings

# The documentation builds without a warning
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# The tests, or those whose name contains FILTER
test *FILTER:
    cargo test {{ FILTER }}

# Licences, advisories, sources (needs cargo-deny)
deny:
    cargo deny check

# The benchmarks, or those whose name contains FILTER
bench *FILTER:
    cargo bench {{ FILTER }}

# See it work; `just demo --for 10s` under load
demo *ARGS:
    cargo run --release -- demo {{ ARGS }}

# Every engine and others' proxies under the same workloads; `just lab --quick` for a first answer
lab *ARGS:
    cargo run --release -- lab run {{ ARGS }}

# The program without the lab, as a server would have it
small:
    cargo build --release --no-default-features
