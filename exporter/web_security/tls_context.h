// A TLS server's side: certificate, versions, and what is asked of clients.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <memory>
#include <string>
#include <vector>

#include "exporter/web_security/web_config.h"
#include "loader/base/error.h"

namespace pangolin {

// Outlives the streams that are made of it: they ask it about clients' certificates.
class TlsContext {
  public:
    // Reads the files that `config` names. Fails with the file and what is wrong with it.
    static Result<std::shared_ptr<TlsContext>> load(const TlsServerConfig& config);
    TlsContext(const TlsContext&) = delete;
    TlsContext& operator=(const TlsContext&) = delete;
    ~TlsContext() = default;

    boost::asio::ssl::context& context() { return context_; }

  private:
    explicit TlsContext(const TlsServerConfig& config);

    Result<void> set_certificate(const TlsServerConfig& config);
    Result<void> set_ciphers(const TlsServerConfig& config);
    Result<void> set_clients(const TlsServerConfig& config);
    // OpenSSL's certificate verification, for a client's chain.
    static int verify(X509_STORE_CTX* store, void* self);

    boost::asio::ssl::context context_{boost::asio::ssl::context::tls_server};
    bool chain_matters_;
    std::vector<std::string> allowed_names_;
};

// The subject alternative names of a certificate: DNS names, addresses, e-mail addresses and URIs.
std::vector<std::string> alternative_names(const X509& certificate);

}  // namespace pangolin
