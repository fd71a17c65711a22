use super::*;

/// A store without ranges.
fn nothing() -> Snapshot {
    let engine = Arc::new(coracle_store::MemoryEngine::new());
    let store = coracle_store::Store::open(engine, crate::header_of, coracle_store::Config::default());
    store.unwrap().snapshot()
}

fn pools() -> Addresses {
    Addresses {
        first: Range::new(Ipv4Addr::new(10, 96, 0, 0), 12),
        ports: 30000..=30002,
        taken: Arc::default(),
    }
}

fn service(spec: Value) -> Value {
    json!({"spec": spec})
}

#[test]
fn an_address_is_given_and_kept() {
    let pools = pools();
    let mut one = service(json!({"type": "ClusterIP", "ports": [{"port": 80}]}));
    pools
        .assign("services/a/one", &mut one, None, &nothing())
        .unwrap()
        .keep();
    let address = object::text(&one, "spec.clusterIP").to_owned();
    assert!(address.starts_with("10.96."));
    let mut two = service(json!({"type": "ClusterIP", "clusterIP": address}));
    let faults = pools
        .assign("services/a/two", &mut two, None, &nothing())
        .err()
        .unwrap();
    assert!(
        faults[0].body().contains("provided IP is already allocated"),
        "{}",
        faults[0].body()
    );
    pools.release("services/a/one");
    pools
        .assign("services/a/two", &mut two, None, &nothing())
        .unwrap()
        .keep();
}

#[test]
fn the_first_are_given_out_last() {
    assert_eq!(
        (band(2768 / 32, STATIC_PORTS), band((1 << 20) / 16, STATIC_ADDRESSES)),
        (86, 256)
    );
    assert_eq!(band(3, STATIC_PORTS), 0);
    let order: Vec<u32> = sought(10, 4, |upper| upper - 1).collect();
    assert_eq!((order[0], &order[6..]), (9, &[0, 1, 2, 3][..]));
    let mut all = order.clone();
    all.sort_unstable();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_write_that_fails_gives_back() {
    let pools = pools();
    let mut one = service(json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}));
    drop(pools.assign("services/a/one", &mut one, None, &nothing()).unwrap());
    assert!(pools.taken.lock().addresses.is_empty());
    assert!(pools.taken.lock().ports.is_empty());
}

#[test]
fn headless_and_external_services_get_none() {
    let pools = pools();
    let mut headless = service(json!({"type": "ClusterIP", "clusterIP": "None"}));
    pools
        .assign("services/a/h", &mut headless, None, &nothing())
        .unwrap()
        .keep();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let mut external = service(json!({"type": "ExternalName", "externalName": "x.y"}));
    pools
        .assign("services/a/e", &mut external, None, &nothing())
        .unwrap()
        .keep();
    assert_eq!(
        external,
        service(json!({"type": "ExternalName", "externalName": "x.y"}))
    );
    assert!(pools.taken.lock().addresses.is_empty());
}

#[test]
fn node_ports_run_out_and_go_with_the_type() {
    let pools = pools();
    let node_port = |ports: Value| service(json!({"type": "NodePort", "ports": ports}));
    let mut all = node_port(json!([{"port": 1}, {"port": 2}, {"port": 3, "nodePort": 30001}]));
    pools
        .assign("services/a/all", &mut all, None, &nothing())
        .ok()
        .unwrap()
        .keep();
    assert_eq!(ports(&all).len(), 3, "{all}");
    let mut more = node_port(json!([{"port": 1}]));
    assert!(pools.assign("services/a/more", &mut more, None, &nothing()).is_err());
    let mut far = node_port(json!([{"port": 1, "nodePort": 80}]));
    let faults = pools
        .assign("services/a/far", &mut far, None, &nothing())
        .err()
        .unwrap();
    assert!(faults[0].body().contains("The range of valid ports is 30000-30002"));
    let mut plain = all.clone();
    plain["spec"]["type"] = json!("ClusterIP");
    pools
        .assign("services/a/all", &mut plain, Some(&all), &nothing())
        .unwrap()
        .keep();
    assert!(ports(&plain).is_empty());
    assert!(pools.taken.lock().ports.is_empty());
}

#[test]
fn an_update_keeps_what_it_does_not_mention() {
    let pools = pools();
    let mut old = service(json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}));
    pools
        .assign("services/a/one", &mut old, None, &nothing())
        .unwrap()
        .keep();
    let mut new = service(json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}));
    pools
        .assign("services/a/one", &mut new, Some(&old), &nothing())
        .unwrap()
        .keep();
    assert_eq!(new, old);
}
