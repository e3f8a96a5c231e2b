//! `emberline warm` between real Redis servers.

#![allow(clippy::unwrap_used)]

mod support;
mod warm_support;

use std::collections::BTreeMap;

use emberline_protocol::redis::reply;
use support::{Client, Server, command};
use warm_support::{House, checkpoint, said, summary, until};

/// What a server says of a key: its type, its value, its TTL.
type Seen = (Vec<u8>, Vec<u8>, i64);

fn key(i: usize) -> Vec<u8> {
    match i % 50 {
        // Bytes that no text has, and a cluster's hash tag.
        0 => [b"bin:\r\n\0\xff".as_slice(), i.to_string().as_bytes()].concat(),
        1 => format!("{{tag}}:{i}").into_bytes(),
        _ => format!("key:{i}").into_bytes(),
    }
}

/// A key of one of Redis' types, two thirds with an end.
fn fill(i: usize, out: &mut Vec<u8>) -> usize {
    let (key, n) = (key(i), i.to_string());
    let (key, n) = (&key[..], n.as_bytes());
    let value: Vec<&[u8]> = match i % 7 {
        0 => vec![b"SET", key, n],
        1 => vec![b"RPUSH", key, n, b"b", b"\0\r\n"],
        2 => vec![b"SADD", key, n, b"b", b"c"],
        3 => vec![b"ZADD", key, b"1.5", n, b"-2", b"b"],
        4 => vec![b"HSET", key, b"field", n, b"other", b"\xff"],
        5 => vec![b"XADD", key, b"*", b"field", n],
        _ => vec![b"PFADD", key, n, b"b"],
    };
    out.extend(command(&value));
    let ttl = match i % 3 {
        0 => return 1,
        1 => 3_600_000 + i,
        _ => 600_000 + i,
    };
    out.extend(command(&[b"PEXPIRE", key, ttl.to_string().as_bytes()]));
    2
}

fn fill_all(house: &House, count: usize) {
    let mut clients: Vec<Client> = house.old.iter().map(Server::client).collect();
    for first in (0..count).step_by(500) {
        let mut out = vec![Vec::new(); clients.len()];
        let mut replies = vec![0; clients.len()];
        for i in first..(first + 500).min(count) {
            let home = home_of(house, i);
            replies[home] += fill(i, &mut out[home]);
        }
        for ((client, out), replies) in clients.iter_mut().zip(out).zip(replies) {
            client.send(&out);
            (0..replies).for_each(|_| assert!(!reply::is_error(&client.reply())));
        }
    }
}

/// Redis pools hash the part within braces.
fn hashed(key: &[u8]) -> &[u8] {
    match key.starts_with(b"{tag}") {
        true => b"tag",
        false => key,
    }
}

fn home_of(house: &House, i: usize) -> usize {
    house.old_home(hashed(&key(i)))
}

fn look(client: &mut Client, key: &[u8]) -> Seen {
    let kind = client.call(&[b"TYPE", key]);
    // A set's members are in no order.
    let dump = match &kind[..] {
        b"+set\r\n" => {
            let reply = client.call(&[b"SMEMBERS", key]);
            let mut members: Vec<&[u8]> = reply::elements(&reply).unwrap().collect();
            members.sort_unstable();
            members.concat()
        }
        _ => client.call(&[b"DUMP", key]),
    };
    let ttl = reply::integer(&client.call(&[b"PTTL", key])).unwrap();
    (kind, dump, ttl)
}

fn size(server: &Server) -> i64 {
    reply::integer(&server.client().call(&["DBSIZE"])).unwrap()
}

/// Every key is where the new ring wants it, as it was, and nowhere else.
fn all_there(house: &House, count: usize) {
    let mut old: Vec<Client> = house.old.iter().map(Server::client).collect();
    let mut new: Vec<Client> = house.new.iter().map(Server::client).collect();
    for i in 0..count {
        let key = key(i);
        let was = look(&mut old[home_of(house, i)], &key);
        let is = look(&mut new[house.new_home(hashed(&key))], &key);
        assert_eq!((&was.0, &was.1), (&is.0, &is.1), "key {i}");
        assert_eq!(was.2 < 0, is.2 < 0, "key {i}: {} and {}", was.2, is.2);
        assert!(
            (was.2 - is.2).abs() <= 1000,
            "key {i}: {} and {}",
            was.2,
            is.2
        );
    }
    let total: i64 = house.new.iter().map(size).sum();
    assert_eq!(total, count as i64);
}

#[test]
fn every_type_arrives_with_its_time_to_live() {
    let Some(house) = House::redis(2, 3) else {
        return;
    };
    fill_all(&house, 20_000);
    let summary = house.warm(&[]);
    assert_eq!(summary["copied"], 20_000, "{summary:#}");
    assert!(summary["seen"].as_u64().unwrap() >= 20_000);
    all_there(&house, 20_000);
    // Again: everything is there already.
    let summary = house.warm(&["--source-p99", "1s"]);
    assert_eq!(summary["copied"], 0);
    assert!(summary["skipped"]["existed"].as_u64().unwrap() >= 20_000);
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let Some(house) = House::redis(2, 3) else {
        return;
    };
    fill_all(&house, 20_000);
    let file = &house.killed_half_way("8000");
    let half: i64 = house.new.iter().map(size).sum();
    assert!((1..20_000).contains(&half), "{half}");

    let summary = house.warm(&["--checkpoint", file]);
    assert!(summary["seen"].as_u64().unwrap() < 20_000, "{summary:#}");
    all_there(&house, 20_000);
    let summary = house.warm(&["--checkpoint", file]);
    assert_eq!(summary["complete_before"], true);
    assert_eq!(summary["seen"], 0);
}

#[test]
fn an_interrupted_run_leaves_a_checkpoint() {
    let Some(house) = House::redis(1, 2) else {
        return;
    };
    fill_all(&house, 3000);
    let path = house.path("state.json");
    let file = path.to_str().unwrap();
    let run = house.start(&["--checkpoint", file, "--rate", "1000"]);
    until("the first key", || {
        house.new.iter().map(size).sum::<i64>() > 0
    });
    run.interrupt();
    let output = run.output();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(summary(&output)["interrupted"], true);
    assert!(checkpoint(&path).is_some());
    house.warm(&["--checkpoint", file]);
    all_there(&house, 3000);
}

#[test]
fn a_checkpoint_of_another_job_is_refused() {
    let Some(house) = House::redis(1, 2) else {
        return;
    };
    let path = house.path("state.json");
    let file = path.to_str().unwrap();
    house.warm(&["--checkpoint", file]);
    let check = |args: &[&str], what: &str| {
        let output = house.try_warm(&[args, &["--checkpoint", file]].concat());
        assert_eq!(output.status.code(), Some(2));
        let said = said(&output);
        assert!(said.contains(what), "{said}");
    };
    check(&["--match", "user:"], "another choice of keys");
    house.configure("", "distribution = \"jump\"");
    check(&[], "another target pool");
    house.configure("", "salt = \"x\"");
    check(&[], "another target pool");
    house.configure("salt = \"x\"", "");
    check(&[], "another source pool");
    std::fs::write(&path, "{}").unwrap();
    check(&[], "is not a checkpoint");
}

#[test]
fn a_cursor_of_a_restarted_server_is_not_trusted() {
    let Some(mut house) = House::redis(1, 2) else {
        return;
    };
    fill_all(&house, 5000);
    let file = &house.killed_half_way("3000");
    house.old[0].restart();
    fill_all(&house, 5000);
    let summary = house.warm(&["--checkpoint", file]);
    assert!(summary["seen"].as_u64().unwrap() >= 5000, "{summary:#}");
}

/// What it was given before is gone, and the checkpoint does not say so.
#[test]
fn a_target_that_was_restarted_is_filled_again() {
    let Some(mut house) = House::redis(1, 2) else {
        return;
    };
    fill_all(&house, 5000);
    let file = &house.killed_half_way("3000");
    house.new[0].restart();
    assert_eq!(size(&house.new[0]), 0);
    let summary = house.warm(&["--checkpoint", file]);
    let name = house.new[0].address().to_string();
    assert_eq!(summary["restarted"], serde_json::json!([name]));
    all_there(&house, 5000);
    // Also when all had been copied.
    house.new[1].restart();
    let summary = house.warm(&["--checkpoint", file]);
    assert_eq!(summary["complete_before"], false, "{summary:#}");
    all_there(&house, 5000);
    let summary = house.warm(&["--checkpoint", file]);
    assert_eq!(summary["complete_before"], true, "{summary:#}");
}

#[test]
fn a_target_that_is_restarted_meanwhile_is_no_success() {
    let Some(mut house) = House::redis(1, 2) else {
        return;
    };
    fill_all(&house, 5000);
    let path = house.path("state.json");
    let file = path.to_str().unwrap();
    let run = house.start(&["--checkpoint", file, "--rate", "3000", "--retry-for", "60s"]);
    until("keys on a target", || size(&house.new[0]) > 100);
    house.new[0].restart();
    let output = run.output();
    assert_eq!(output.status.code(), Some(1));
    let summary = summary(&output);
    let name = house.new[0].address().to_string();
    let why = summary["failed"][&name].as_str().unwrap();
    assert!(
        why.contains("it was restarted while it was filled"),
        "{why}"
    );
    assert_eq!(summary["whole"], false);
    house.warm(&["--checkpoint", file]);
    all_there(&house, 5000);
}

#[test]
fn what_the_target_has_stays_unless_told_otherwise() {
    let Some(house) = House::redis(2, 3) else {
        return;
    };
    fill_all(&house, 700);
    let mine = key(7);
    let mut client = house.new[house.new_home(&mine)].client();
    client.call(&[b"SET", &mine[..], b"newer"]);

    let summary = house.warm(&["--dry-run"]);
    assert_eq!(
        (
            summary["copied"].as_u64(),
            summary["skipped"]["existed"].as_u64()
        ),
        (Some(699), Some(1))
    );
    assert!(summary["bytes"].as_u64().unwrap() > 700);
    assert_eq!(house.new.iter().map(size).sum::<i64>(), 1);

    assert_eq!(house.warm(&[])["skipped"]["existed"], 1);
    assert_eq!(client.call(&[b"GET", &mine[..]]), b"$5\r\nnewer\r\n");
    assert_eq!(house.warm(&["--replace"])["copied"], 700);
    assert_eq!(client.call(&[b"GET", &mine[..]]), b"$1\r\n7\r\n");
    all_there(&house, 700);
}

#[test]
fn only_the_keys_that_were_asked_for() {
    let Some(house) = House::redis(2, 3) else {
        return;
    };
    // A leftover of another ring, on the server that is not its home.
    let homeless = (0..)
        .map(|i| format!("left:{i}"))
        .find(|key| house.old_home(key.as_bytes()) == 0);
    let homeless = homeless.unwrap();
    house.old[1].client().call(&["SET", &homeless, "stale"]);
    let mut set = BTreeMap::new();
    for (name, ttl) in [
        ("a*[x:1", "-"),
        ("a*[x:2", "500000"),
        ("a*[x:3", "30000"),
        ("aZ[x:4", "-"),
    ] {
        let mut client = house.old[house.old_home(name.as_bytes())].client();
        client.call(&["SET", name, "v"]);
        if ttl != "-" {
            client.call(&["PEXPIRE", name, ttl]);
        }
        set.insert(name, house.new_home(name.as_bytes()));
    }
    let args = ["--match", "a*[x:", "--min-ttl", "1m"];
    let summary = house.warm(&args);
    assert_eq!(summary["copied"], 2, "{summary:#}");
    assert_eq!(summary["skipped"]["short"], 1);
    for (name, there) in [("a*[x:1", 1), ("a*[x:2", 1), ("a*[x:3", 0), ("aZ[x:4", 0)] {
        let reply = house.new[set[name]].client().call(&["EXISTS", name]);
        assert_eq!(reply::integer(&reply), Some(there), "{name}");
    }

    let summary = house.warm(&[]);
    assert_eq!(summary["skipped"]["leftovers"], 1);
    let mut home = house.new[house.new_home(homeless.as_bytes())].client();
    assert_eq!(home.call(&["EXISTS", &homeless]), b":0\r\n");
    let only = house.new[house.new_home(homeless.as_bytes())]
        .address()
        .to_string();
    house.warm(&["--all", "--only", &only]);
    assert_eq!(home.call(&["EXISTS", &homeless]), b":1\r\n");
}

#[test]
fn servers_in_both_pools_keep_their_keys() {
    let Some(mut house) = House::redis(2, 1) else {
        return;
    };
    // The new pool is the old one and one more.
    let added = house.new.remove(0);
    let address = |server: &Server| {
        format!(
            "{{ address = \"{}\", name = \"s{}\" }}",
            server.address(),
            server.port()
        )
    };
    let list: Vec<String> = house.old.iter().chain([&added]).map(address).collect();
    fill_all(&house, 1000);
    let old: Vec<String> = house.old.iter().map(address).collect();
    let text = format!(
        "[listeners.main]\nprotocol = \"redis\"\nbind = \"127.0.0.1:1\"\nroute = \"old\"\n\
         [pools.old]\nprotocol = \"redis\"\nservers = [{}]\n\
         [pools.new]\nprotocol = \"redis\"\nservers = [{}]\n",
        old.join(", "),
        list.join(", ")
    );
    std::fs::write(house.config(), text).unwrap();
    let summary = house.warm(&[]);
    // Servers are called after their ports: shares differ from run to run.
    let before: Vec<usize> = (0..1000).map(|i| home_of(&house, i)).collect();
    house.old.push(added);
    let stays = (0..1000).filter(|&i| home_of(&house, i) == before[i]);
    let staying = stays.count();
    assert!(staying < 1000);
    assert_eq!(summary["skipped"]["staying"], staying, "{summary:#}");
    assert_eq!(summary["copied"], 1000 - staying);
    let added = &house.old[2];
    assert_eq!(
        size(added) as u64,
        summary["targets"][added.address().to_string()]["keys"]
            .as_u64()
            .unwrap()
    );
}

#[test]
fn a_value_that_is_refused_does_not_end_the_run() {
    let Some(house) = House::redis(1, 1) else {
        return;
    };
    fill_all(&house, 201);
    house.new[0]
        .client()
        .call(&["CONFIG", "SET", "maxmemory", "1"]);
    let output = house.try_warm(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let summary = summary(&output);
    assert_eq!(summary["refused"], 201, "{summary:#}");
    assert_eq!(summary["refusals"].as_array().unwrap().len(), 5);
    assert!(summary["refusals"][0].as_str().unwrap().contains("OOM"));
    house.new[0]
        .client()
        .call(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(house.warm(&[])["copied"], 201);
}

#[test]
fn a_lost_server_is_reported_and_the_others_are_filled() {
    let Some(mut house) = House::redis(1, 3) else {
        return;
    };
    fill_all(&house, 2000);
    house.new[1].kill();
    let path = house.path("state.json");
    let file = path.to_str().unwrap();
    let output = house.try_warm(&["--retry-for", "200ms", "--checkpoint", file]);
    assert_eq!(output.status.code(), Some(1));
    let summary = summary(&output);
    let lost = house.new[1].address().to_string();
    assert!(summary["failed"][&lost].is_string(), "{summary:#}");
    let undelivered = summary["skipped"]["undelivered"].as_u64().unwrap();
    assert!(undelivered > 0);
    assert_eq!(summary["copied"].as_u64().unwrap() + undelivered, 2000);
    // When it is back, the checkpoint knows that something is missing.
    house.new[1].restart();
    house.warm(&["--checkpoint", file]);
    all_there(&house, 2000);
}

#[test]
fn a_source_that_comes_back_is_waited_for() {
    let Some(house) = House::redis(1, 2) else {
        return;
    };
    fill_all(&house, 4000);
    let run = house.start(&["--rate", "2000", "--retry-for", "30s"]);
    until("the first key", || {
        house.new.iter().map(size).sum::<i64>() > 0
    });
    // Its connections end; it lives on.
    house.old[0]
        .client()
        .call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let output = run.output();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    all_there(&house, 4000);
}

#[test]
fn credentials_and_databases_of_both_pools_count() {
    let (Some(old), Some(new)) = (
        Server::redis_with(&["--requirepass", "source"]),
        Server::redis_with(&["--requirepass", "target"]),
    ) else {
        return;
    };
    let house = House::new("redis", vec![old], vec![new]);
    let mut client = house.old[0].client();
    for words in [
        &["AUTH", "source"][..],
        &["SELECT", "3"],
        &["SET", "k", "v"],
    ] {
        assert_eq!(client.call(words), b"+OK\r\n");
    }
    let pools = |target: &str| {
        let line = |password: &str, database| {
            format!("password_file = \"{password}\"\ndatabase = {database}")
        };
        for password in ["source", "target", "wrong"] {
            std::fs::write(house.path(password), password).unwrap();
        }
        house.configure(&line("source", 3), &line(target, 5));
    };
    pools("wrong");
    let output = house.try_warm(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("it refused AUTH (WRONGPASS)"),
        "{}",
        said(&output)
    );
    assert!(!said(&output).contains("\"wrong\""));
    pools("target");
    assert_eq!(house.warm(&[])["copied"], 1);
    let mut client = house.new[0].client();
    for words in [&["AUTH", "target"][..], &["SELECT", "5"]] {
        client.call(words);
    }
    assert_eq!(client.call(&["GET", "k"]), b"$1\r\nv\r\n");
}

#[test]
fn a_hot_list_comes_first() {
    let Some(house) = House::redis(2, 3) else {
        return;
    };
    fill_all(&house, 5000);
    let hot: Vec<usize> = (0..5000).filter(|i| i % 50 > 1).rev().take(40).collect();
    let lines: Vec<String> = hot
        .iter()
        .map(|i| String::from_utf8(key(*i)).unwrap())
        .collect();
    std::fs::write(house.path("hot"), lines.join("\n")).unwrap();
    let file = house.path("hot");
    let run = house.start(&["--hot-list", file.to_str().unwrap(), "--rate", "200"]);
    until("forty keys", || {
        house.new.iter().map(size).sum::<i64>() >= 40
    });
    run.interrupt();
    run.output();
    let there = hot.iter().filter(|i| {
        let key = key(**i);
        let mut client = house.new[house.new_home(&key)].client();
        client.call(&[b"EXISTS", &key[..]]) == b":1\r\n"
    });
    assert_eq!(there.count(), 40);
}
