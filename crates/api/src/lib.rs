//! HTTP: routes, shapes, texts.
