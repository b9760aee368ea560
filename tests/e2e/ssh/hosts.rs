//! Who is let in, on both sides.

use std::process::Command;

use harness::ports::Port;
use harness::process::Program;
use tokio::net::TcpListener;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn only_a_known_host_is_talked_to() -> Result<()> {
    let (sshd, folder) = (Sshd::start().await?, tempfile::tempdir()?);
    let file = |name: &str| folder.path().join(name);
    let port = sshd.port().number();
    let known = std::fs::read_to_string(sshd.known_hosts(port)?)?;
    std::fs::write(
        file("nobody"),
        "db1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ\n",
    )?;
    make_key(&file("other"), &[])?;
    let other = std::fs::read_to_string(file("other.pub"))?;
    std::fs::write(file("changed"), format!("# moved\n[127.0.0.1]:{port} {other}"))?;
    std::fs::write(file("revoked"), format!("{known}@revoked * {}", known.split_once(' ').context("a key")?.1))?;
    std::fs::write(file("hashed"), &known)?;
    let hashed = Command::new("ssh-keygen").arg("-H").arg("-f").arg(file("hashed")).output()?;
    ensure!(hashed.status.success() && !std::fs::read_to_string(file("hashed"))?.contains("127.0.0.1"));

    let retry = json!({ "max_attempts": 3, "initial": "10ms" });
    let mut jobs = Jobs::on(&sshd);
    for name in ["nobody", "changed", "revoked", "hashed", "absent"] {
        let keys = json!({ "command": ["true"], "known_hosts": file(name), "retry": retry });
        jobs = jobs.job(name, keys)?;
    }
    let stack = jobs.start(Stack::embedded()).await?;
    ended(&stack, "hashed", "SUCCEEDED").await?;
    let line = known.trim().rsplit_once(' ').map_or(known.trim(), |(line, _remark)| line);
    let nobody = file("nobody").display().to_string();
    let unknown = fails(&stack, "nobody", "SshUnknownHost", &["SHA256:", &nobody, line]).await?;
    let place = format!("{}:2", file("changed").display());
    let changed = fails(&stack, "changed", "SshHostKeyChanged", &["SHA256:", &place, "ssh-keygen -lf"]).await?;
    let revoked = fails(&stack, "revoked", "SshHostKeyRevoked", &["revoked:2"]).await?;
    let absent = fails(&stack, "absent", "SshKnownHosts", &["absent can't be read"]).await?;
    for run in [unknown, changed, revoked, absent] {
        ensure!(run["attempt"] == 1, "tried again: {run}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_the_key_is_let_in() -> Result<()> {
    let (sshd, folder) = (Sshd::start().await?, tempfile::tempdir()?);
    let file = |name: &str| folder.path().join(name);
    make_key(&file("stranger"), &[])?;
    make_key(&file("locked"), &["-t", "ecdsa", "-N", "hunter2"])?;
    make_key(&file("rsa"), &["-t", "rsa", "-N", ""])?;
    sshd.authorize(&file("locked.pub"))?;
    sshd.authorize(&file("rsa.pub"))?;
    // An agent alone can use an RSA key.
    let agent =
        Program::new("ssh-agent", "agent", folder.path()).arg("-D").arg("-a").arg(file("socket")).quiet().start()?;
    eventually("the agent's socket", LONG, async || if file("socket").exists() { Ok(()) } else { Err(agent.log()) })
        .await?;
    let added =
        Command::new("ssh-add").env("SSH_AUTH_SOCK", file("socket")).arg(file("stranger")).arg(file("rsa")).output()?;
    ensure!(added.status.success(), "{added:?}");

    let retry = json!({ "max_attempts": 3, "initial": "10ms" });
    let passphrase = |name: &str| format!("${{env:{name}}}");
    let jobs = Jobs::on(&sshd)
        .job("stranger", json!({ "command": ["true"], "identity_file": file("stranger"), "retry": retry }))?
        .job("user", json!({ "command": ["true"], "user": "no-such-user", "retry": retry }))?
        .job("locked", json!({ "command": ["true"], "identity_file": file("locked"), "retry": retry }))?
        .job(
            "opened",
            json!({ "command": ["true"], "identity_file": file("locked"), "passphrase": passphrase("RIGHT") }),
        )?
        .job(
            "not-opened",
            json!({ "command": ["true"], "identity_file": file("locked"), "passphrase": passphrase("WRONG") }),
        )?
        .job(
            "unset",
            json!({ "command": ["true"], "identity_file": file("locked"), "passphrase": passphrase("UNSET") }),
        )?
        .job("rsa", json!({ "command": ["true"], "identity_file": file("rsa") }))?
        .job("absent", json!({ "command": ["true"], "identity_file": file("absent") }))?
        .job("public", json!({ "command": ["true"], "identity_file": file("rsa.pub") }))?
        .job("agent", json!({ "command": ["true"], "identity_file": null }))?;
    let builder = Stack::embedded().env("RIGHT", "hunter2").env("WRONG", "hunter3");
    let stack = jobs.start(builder.env("SSH_AUTH_SOCK", file("socket").to_string_lossy())).await?;

    ended(&stack, "opened", "SUCCEEDED").await?;
    ended(&stack, "agent", "SUCCEEDED").await?;
    let stranger = fails(&stack, "stranger", "SshAuth", &["ssh-ed25519 SHA256:", "authorized_keys"]).await?;
    let user = fails(&stack, "user", "SshAuth", &["does not take no-such-user"]).await?;
    let locked = fails(&stack, "locked", "SshIdentity", &["locked is encrypted", "passphrase: ${env:NAME}"]).await?;
    for run in [stranger, user, locked] {
        ensure!(run["attempt"] == 1, "tried again: {run}");
    }
    let wrong = fails(&stack, "not-opened", "SshIdentity", &["does not open with its passphrase"]).await?;
    ensure!(!wrong.to_string().contains("hunter"), "{wrong}");
    fails(&stack, "unset", "MissingEnvironment", &["passphrase needs the variable UNSET"]).await?;
    fails(&stack, "rsa", "SshIdentity", &["can't be used", "agent"]).await?;
    fails(&stack, "absent", "SshIdentity", &["absent can't be read"]).await?;
    fails(&stack, "public", "SshIdentity", &["rsa.pub is no private key"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_answer_is_not_waited_for() -> Result<()> {
    let (sshd, nobody) = (Sshd::start().await?, Port::claim()?);
    // It lets the kernel accept, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let jobs = Jobs::on(&sshd)
        .job("nobody", json!({ "command": ["true"], "port": nobody.number() }))?
        .job("silent", json!({ "command": ["true"], "port": silent.local_addr()?.port(), "connect_timeout": "500ms" }))?
        .job("nowhere", json!({ "command": ["true"], "host": "nowhere.invalid" }))?;
    let stack = jobs.start(Stack::embedded()).await?;
    let place = format!("127.0.0.1:{}", nobody.number());
    fails(&stack, "nobody", "SshConnect", &[&place, "refused"]).await?;
    fails(&stack, "nowhere", "SshConnect", &["nowhere.invalid:"]).await?;
    let start = Instant::now();
    fails(&stack, "silent", "SshConnectTimeout", &["500ms"]).await?;
    ensure!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    Ok(())
}
