// Asks gatekeeper's introspection listener what the caller's access token opens.
// For auth_request: 204 with the answer in fields, 401 for a token that opens nothing.

const KNOWN = ['user_id', 'owner', 'scope', 'upstream_host', 'auth_header'];

function introspect(r) {
    r.subrequest('/_introspection_request', reply => {
        if (reply.status != 200) {
            r.return(reply.status);  // 401, or 503 where it cannot be told now
            return;
        }
        const answer = JSON.parse(reply.responseText);
        KNOWN.forEach(name => { r.headersOut[`token-${name}`] = answer[name]; });
        r.status = 204;
        r.sendHeader();
        r.finish();
    });
}

export default { introspect };
