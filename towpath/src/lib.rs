//! One honest message queue contract, any cloud, chosen by a URL.
