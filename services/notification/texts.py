"""What is said, in every language. A text is one SMS; an e-mail has a subject above it."""

from __future__ import annotations

from typing import NamedTuple


class Text(NamedTuple):
    """Subject of the e-mail, and the text, with the names of parameters in braces."""

    subject: str
    text: str


FALLBACK = "en"

# Template -> language -> text.
TEXTS: dict[str, dict[str, Text]] = {
    "code_login": {
        "en": Text(
            "Your Sampan sign-in code",
            "{code} is your Sampan sign-in code, good for {minutes} min. Never give it to anyone.",
        ),
        "th": Text(
            "รหัสเข้าสู่ระบบ Sampan ของคุณ",
            "{code} คือรหัสเข้าสู่ระบบ Sampan ของคุณ ใช้ได้ {minutes} นาที ห้ามบอกผู้อื่น",
        ),
        "id": Text(
            "Kode masuk Sampan Anda",
            "{code} adalah kode masuk Sampan Anda, berlaku {minutes} menit. Jangan berikan kepada siapa pun.",
        ),
        "ms": Text(
            "Kod log masuk Sampan anda",
            "{code} ialah kod log masuk Sampan anda, sah selama {minutes} minit. Jangan beritahu sesiapa.",
        ),
        "vi": Text(
            "Mã đăng nhập Sampan của bạn",
            "{code} là mã đăng nhập Sampan của bạn, có hiệu lực {minutes} phút. Không đưa mã cho bất kỳ ai.",
        ),
        "tl": Text(
            "Ang iyong code sa pag-sign in sa Sampan",
            "{code} ang iyong code sa pag-sign in sa Sampan, may bisa nang {minutes} minuto. "
            "Huwag ibigay kaninuman.",
        ),
    },
    "code_reset": {
        "en": Text(
            "Set a new Sampan password",
            "{code} is your code to set a new Sampan password, good for {minutes} min. "
            "If you did not ask for it, ignore this.",
        ),
        "th": Text(
            "ตั้งรหัสผ่าน Sampan ใหม่",
            "{code} คือรหัสสำหรับตั้งรหัสผ่าน Sampan ใหม่ ใช้ได้ {minutes} นาที หากคุณไม่ได้ขอ โปรดเพิกเฉย",
        ),
        "id": Text(
            "Atur ulang kata sandi Sampan",
            "{code} adalah kode untuk mengatur ulang kata sandi Sampan, berlaku {minutes} menit. "
            "Abaikan jika bukan Anda yang meminta.",
        ),
        "ms": Text(
            "Tetapkan semula kata laluan Sampan",
            "{code} ialah kod untuk menetapkan semula kata laluan Sampan, sah selama {minutes} minit. "
            "Abaikan jika anda tidak memintanya.",
        ),
        "vi": Text(
            "Đặt lại mật khẩu Sampan",
            "{code} là mã đặt lại mật khẩu Sampan, có hiệu lực {minutes} phút. "
            "Nếu bạn không yêu cầu, hãy bỏ qua.",
        ),
        "tl": Text(
            "Palitan ang password mo sa Sampan",
            "{code} ang code para palitan ang password mo sa Sampan, may bisa nang {minutes} minuto. "
            "Kung hindi ikaw ang humiling, balewalain ito.",
        ),
    },
    "no_account": {
        "en": Text(
            "No Sampan account here",
            "Somebody asked for a Sampan code for this address or number, but no account has it. "
            "If it was you, register first.",
        ),
        "th": Text(
            "ไม่มีบัญชี Sampan",
            "มีผู้ขอรหัส Sampan สำหรับที่อยู่หรือหมายเลขนี้ แต่ยังไม่มีบัญชี หากเป็นคุณ โปรดลงทะเบียนก่อน",
        ),
        "id": Text(
            "Belum ada akun Sampan",
            "Ada yang meminta kode Sampan untuk alamat atau nomor ini, tetapi belum ada akunnya. "
            "Jika itu Anda, silakan daftar dulu.",
        ),
        "ms": Text(
            "Tiada akaun Sampan",
            "Seseorang meminta kod Sampan untuk alamat atau nombor ini, tetapi tiada akaun. "
            "Jika itu anda, sila daftar dahulu.",
        ),
        "vi": Text(
            "Chưa có tài khoản Sampan",
            "Có người yêu cầu mã Sampan cho địa chỉ hoặc số này, nhưng chưa có tài khoản nào. "
            "Nếu là bạn, hãy đăng ký trước.",
        ),
        "tl": Text(
            "Walang Sampan account",
            "May humingi ng Sampan code para sa address o numerong ito, pero wala pa itong account. "
            "Kung ikaw iyon, magparehistro muna.",
        ),
    },
    "new_device": {
        "en": Text(
            "New sign-in to your Sampan account",
            "New sign-in to your Sampan account: {device}. If it was not you, change your password now.",
        ),
        "th": Text(
            "มีการเข้าสู่ระบบ Sampan ใหม่",
            "มีการเข้าสู่ระบบบัญชี Sampan ของคุณ: {device} หากไม่ใช่คุณ โปรดเปลี่ยนรหัสผ่านทันที",
        ),
        "id": Text(
            "Login baru ke akun Sampan Anda",
            "Login baru ke akun Sampan Anda: {device}. Jika bukan Anda, segera ganti kata sandi.",
        ),
        "ms": Text(
            "Log masuk baharu ke akaun Sampan anda",
            "Log masuk baharu ke akaun Sampan anda: {device}. Jika bukan anda, tukar kata laluan sekarang.",
        ),
        "vi": Text(
            "Đăng nhập mới vào tài khoản Sampan",
            "Đăng nhập mới vào tài khoản Sampan của bạn: {device}. "
            "Nếu không phải bạn, hãy đổi mật khẩu ngay.",
        ),
        "tl": Text(
            "Bagong pag-sign in sa Sampan account mo",
            "Bagong pag-sign in sa Sampan account mo: {device}. "
            "Kung hindi ikaw ito, palitan agad ang password.",
        ),
    },
    "password_changed": {
        "en": Text(
            "Your Sampan password was changed",
            "Your Sampan password was changed. If it was not you, reset it in the app at once.",
        ),
        "th": Text(
            "รหัสผ่าน Sampan ของคุณถูกเปลี่ยน",
            "รหัสผ่าน Sampan ของคุณถูกเปลี่ยนแล้ว หากไม่ใช่คุณ โปรดตั้งรหัสผ่านใหม่ในแอปทันที",
        ),
        "id": Text(
            "Kata sandi Sampan Anda diganti",
            "Kata sandi Sampan Anda telah diganti. Jika bukan Anda, segera atur ulang di aplikasi.",
        ),
        "ms": Text(
            "Kata laluan Sampan anda telah ditukar",
            "Kata laluan Sampan anda telah ditukar. Jika bukan anda, tetapkan semula dalam aplikasi segera.",
        ),
        "vi": Text(
            "Mật khẩu Sampan của bạn đã đổi",
            "Mật khẩu Sampan của bạn đã được đổi. Nếu không phải bạn, hãy đặt lại ngay trong ứng dụng.",
        ),
        "tl": Text(
            "Napalitan ang password mo sa Sampan",
            "Napalitan ang password mo sa Sampan. Kung hindi ikaw ito, i-reset agad sa app.",
        ),
    },
}
