// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Stands in for the kernel's procedural macros: on the host nothing needs to stay where it is.

use proc_macro::TokenStream;
use proc_macro::TokenTree;

/// Leaves the structure as it is, without the `#[pin]` at its fields.
#[proc_macro_attribute]
pub fn pin_data(_: TokenStream, item: TokenStream) -> TokenStream {
    without_pins(item)
}

fn without_pins(tokens: TokenStream) -> TokenStream {
    let mut tokens = tokens.into_iter().peekable();
    let mut kept = Vec::new();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                let is_pin = tokens
                    .peek()
                    .is_some_and(|next| next.to_string() == "[pin]");
                if is_pin {
                    tokens.next();
                } else {
                    kept.push(TokenTree::Punct(mark));
                }
            }
            TokenTree::Group(group) => {
                let inner = without_pins(group.stream());
                let group = proc_macro::Group::new(group.delimiter(), inner);
                kept.push(TokenTree::Group(group));
            }
            other => kept.push(other),
        }
    }
    kept.into_iter().collect()
}
