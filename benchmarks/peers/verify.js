// Verifies `Authorization: Bearer hhh.ppp.sss` (HS256) for auth_request: 204 or 401.
import crypto from 'crypto';

function token(r) {
    const parts = (r.headersIn.Authorization || '').replace(/^Bearer /i, '').split('.');
    if (parts.length != 3) {
        return r.return(401);
    }
    const header = JSON.parse(Buffer.from(parts[0], 'base64url').toString());
    const signature = crypto.createHmac('sha256', r.variables.hmac_key)
        .update(parts[0] + '.' + parts[1])
        .digest('base64url');
    if (header.alg !== 'HS256' || signature !== parts[2]) {
        return r.return(401);
    }
    const claims = JSON.parse(Buffer.from(parts[1], 'base64url').toString());
    if (!(claims.exp > Date.now() / 1000)) {
        return r.return(401);
    }
    r.headersOut['X-Key-Id'] = claims.id;
    r.return(204);
}

export default { token };
