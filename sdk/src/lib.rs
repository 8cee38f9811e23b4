pub mod wit {
    wit_bindgen::generate!({
        path: "../wit",
        inline: r"
            package hookswitch:sdk;
            world guest {
                include hookswitch:call/node-imports@0.1.0;
                export hookswitch:call/handler@0.1.0;
                export hookswitch:call/notifications@0.1.0;
            }
        ",
        world: "hookswitch:sdk/guest",
        additional_derives: [PartialEq],
        generate_unused_types: true,
        pub_export_macro: true,
        default_bindings_module: "hookswitch_sdk::wit",
    });
}
