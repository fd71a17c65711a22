//! The `coracle` binary: parse, dispatch, exit code.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use coracle::{
    args::{Cli, Command},
    build, demo, image, up,
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("CORACLE_LOG").unwrap_or_else(|_| "error".into()))
        .with_writer(std::io::stderr)
        .init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let result = runtime.block_on(async {
        match command {
            Command::Up(args) => up::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Kubeconfig(args) => up::print_kubeconfig(&args),
            Command::Build(args) => build::run(args).await,
            Command::Image(command) => image::run(command).await,
        }
    });
    // Whatever still runs in the background has been told to stop; nothing waits for it.
    runtime.shutdown_background();
    result
}
