//! The `coracle` binary: parse, dispatch, exit code.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use coracle::{
    apart,
    args::{Cli, Command, Metering},
    build, demo, fuzz, image, net, node, server, token, up,
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("CORACLE_LOG").unwrap_or_else(|_| usual_log(&cli.command).into()))
        .with_writer(std::io::stderr)
        .init();
    if let Command::CompileModule {
        metering,
        memory_bytes,
        cpu_seconds,
    } = cli.command
    {
        let metering = match metering {
            Metering::Time => coracle_runtime::Metering::Time,
            Metering::Fuel => coracle_runtime::Metering::Fuel,
        };
        return ExitCode::from(coracle_runtime::compile_as_child(metering, memory_bytes, cpu_seconds));
    }
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What goes to standard error if the user does not say. Nobody sees what parts of a control plane do elsewhere, so they
/// tell of what fails.
fn usual_log(command: &Command) -> &'static str {
    match command {
        Command::Controllers(_) | Command::Scheduler(_) => "warn",
        // What is fetched before anybody is trusted is no news.
        Command::Node(_) => "warn,kube_client::client::tls=error",
        _ => "error",
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
            Command::Server(args) => server::run(args).await,
            Command::Controllers(args) => apart::controllers(args).await,
            Command::Scheduler(args) => apart::scheduler(args).await,
            Command::Node(args) => node::run(args).await,
            Command::Token(args) => token::run(args).await,
            Command::Kubeconfig(args) => up::print_kubeconfig(&args),
            Command::Build(args) => build::run(args).await,
            Command::Image(command) => image::run(command).await,
            Command::Net(command) => net::run(command).await,
            Command::Fuzz(args) => fuzz::run(args).await,
            Command::CompileModule { .. } => Ok(()),
        }
    });
    // Whatever still runs in the background has been told to stop; nothing waits for it.
    runtime.shutdown_background();
    result
}
